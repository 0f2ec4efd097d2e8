"""The CUDA backend: pytorch3d's rasteriser. torch and pytorch3d are imported on first use."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from stages.contract import StageError
from stages.geometry.raster.faults import classify
from stages.geometry.raster.interface import NEAR_DEPTH, Fragments

if TYPE_CHECKING:
    from torch import Tensor

FALL_BACK = "run this stage on the CPU (rasterizer: cpu), which needs no pytorch3d"
NEAREST: dict[str, Any] = {
    "blur_radius": 0.0,
    "faces_per_pixel": 1,
    "perspective_correct": True,
    "clip_barycentric_coords": True,
    "cull_backfaces": False,
}
"""Options of `rasterize_meshes`: the nearest face alone, whichever way it looks."""


class Pytorch3dRasterizer:
    """pytorch3d's `rasterize_meshes` on one CUDA device (or, slowly and for checks, the CPU)."""

    name = "pytorch3d"

    def __init__(self, device: str) -> None:
        """Raises StageError: missing_dependency, gpu_unavailable."""
        try:
            import torch
            from pytorch3d.renderer.mesh.rasterize_meshes import (
                rasterize_meshes,  # noqa: F401 (its import is what may fail)
            )
        except ImportError as error:
            # A build for another torch or CUDA version fails here too, as an undefined symbol.
            raise StageError(
                "missing_dependency", f"pytorch3d cannot be imported: {error}", FALL_BACK
            ) from error
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise StageError(
                "gpu_unavailable",
                f"{device} was asked for but torch sees no CUDA device",
                FALL_BACK,
            )
        self._device = device
        # Threads take turns, or each would take its share of the device's memory.
        self._turn = Lock()

    def rasterize(self, clip: np.ndarray, faces: np.ndarray, size: tuple[int, int]) -> Fragments:
        """See `Rasterizer.rasterize`. Raises StageError: gpu_unavailable, gpu_fault,
        out_of_memory. Faces smaller than 1e-8 NDC units squared are not drawn."""
        import torch
        from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
        from pytorch3d.structures import Meshes

        finite = np.isfinite(clip).all(axis=1)
        points = np.where(finite[:, None], clip, 1.0)
        w = points[:, 3]
        # On the camera plane itself x / w has no value; such corners are cut off anyway.
        w = np.where(np.abs(w) < 1e-9, 1e-9, w)
        # pytorch3d's NDC points left and up, and its z is our w.
        ndc = np.stack([-points[:, 0] / w, points[:, 1] / w, w], axis=1)
        drawn = None if finite.all() else np.flatnonzero(finite[faces].all(axis=1))
        try:
            corners = torch.as_tensor(faces, device=self._device).long()
            numbers = None
            if drawn is not None:
                numbers = torch.as_tensor(drawn, device=self._device)
                corners = corners[numbers]
            places = torch.as_tensor(ndc, dtype=torch.float32, device=self._device)
            with self._turn:
                ids, depth, weights, _ = rasterize_meshes(
                    Meshes([places], [corners]),
                    image_size=size,
                    **NEAREST,
                    # Clipping copies all faces: only where one may reach the near plane.
                    z_clip_value=NEAR_DEPTH if (w < NEAR_DEPTH).any() else None,
                )
                return _fragments(ids[0, ..., 0], weights[0, ..., 0, :], depth[0, ..., 0], numbers)
        except RuntimeError as error:
            raise classify(error, "pytorch3d", FALL_BACK) from error

    def draw(self, clip: Tensor, faces: Tensor, size: int) -> tuple[Tensor, Tensor] | None:
        """See `TensorRasterizer.draw`. Raises StageError as `rasterize`."""
        import torch
        from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
        from pytorch3d.structures import Meshes

        try:
            points = clip.to(self._device)
            x, y, w = points.unbind(dim=-1)
            if not bool((points.isfinite().all(dim=-1) & (w >= NEAR_DEPTH)).all()):
                return None
            ndc = torch.stack([-x / w, y / w, w], dim=-1).to(torch.float32)
            corners = faces.to(self._device)
            ids, depth, _, _ = rasterize_meshes(
                Meshes(ndc, corners.expand(len(ndc), -1, -1)),
                image_size=size,
                **NEAREST,
            )
            covered = ids[..., 0] >= 0
            # Faces are numbered through all images.
            first = len(corners) * torch.arange(len(ndc), device=ids.device)[:, None, None]
            return (
                (ids[..., 0] - first).where(covered, -1),
                depth[..., 0].where(covered, torch.inf),
            )
        except RuntimeError as error:
            raise classify(error, "pytorch3d", FALL_BACK) from error


def _fragments(ids: Tensor, weights: Tensor, depth: Tensor, numbers: Tensor | None) -> Fragments:
    """Finished on the device: three copies to the host are all that it waits for.

    numbers: of the faces that were drawn, None if all were.
    """
    covered = ids >= 0
    if numbers is not None and len(numbers):
        ids = numbers[ids.clamp(min=0)]
    return Fragments(
        ids.where(covered, -1).int().cpu().numpy(),
        weights.where(covered[..., None], 0.0).cpu().numpy(),
        depth.where(covered, np.inf).cpu().numpy(),
    )
