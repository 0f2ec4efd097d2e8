"""The choice of a rasteriser."""

from __future__ import annotations

from stages.geometry.raster.interface import Rasterizer, RasterizerName


def open_rasterizer(name: RasterizerName, device: str = "cpu", threads: int = 2) -> Rasterizer:
    """The backend `name`; "auto" takes ours: in torch on a CUDA device, else on the CPU.

    device   "cpu" or "cuda:N"; of pytorch3d and torch, which run on either
    threads  of the CPU backend

    Raises StageError (missing_dependency, gpu_unavailable) if the backend cannot be had.
    """
    if name == "auto":
        name = "torch" if device.startswith("cuda") else "cpu"
    if name == "cpu":
        from stages.geometry.raster.cpu import CpuRasterizer

        return CpuRasterizer(threads)
    if name == "pytorch3d":
        from stages.geometry.raster.py3d import Pytorch3dRasterizer

        return Pytorch3dRasterizer(device)
    if name == "torch":
        from stages.geometry.raster.torch_raster import TorchRasterizer

        return TorchRasterizer(device)
    raise ValueError(f"unknown rasterizer {name!r}: choose auto, cpu, pytorch3d or torch")
