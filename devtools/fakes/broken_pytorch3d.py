"""A package that calls itself pytorch3d and fails in the way that is asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

Fault = Literal["import_error", "no_gpu_support", "cuda_error", "segfault"]

_FAULTS: dict[Fault, str] = {
    "import_error": "",
    "no_gpu_support": "raise RuntimeError('Not compiled with GPU support')",
    "cuda_error": "raise RuntimeError('CUDA error: an illegal memory access was encountered')",
    "segfault": "import ctypes; ctypes.string_at(0)",
}
_KERNEL = """
import torch

def rasterize_meshes(mesh, image_size, **_):
    if len(mesh.faces[0]) > {harmless}:
        {fault}
    height, width = image_size
    ids = torch.full((1, height, width, 1), -1, dtype=torch.int64)
    return ids, ids.float(), ids[..., None].float().expand(-1, -1, -1, -1, 3), ids.float()
"""
_STRUCTURES = """
class Meshes:
    def __init__(self, vertices, faces):
        self.vertices, self.faces = vertices, faces
"""


def write(folder: Path, fault: Fault, harmless: int = 0) -> Path:
    """The package in `folder`, which is returned; its kernel draws nothing for meshes of up to
    `harmless` faces, and faults for larger ones."""
    mesh = folder / "pytorch3d" / "renderer" / "mesh"
    mesh.mkdir(parents=True)
    for package in (mesh, mesh.parent, mesh.parent.parent):
        (package / "__init__.py").write_text("")
    if fault == "import_error":
        kernel = "raise ImportError('libcudart.so.12: cannot open shared object file')"
    else:
        kernel = _KERNEL.format(harmless=harmless, fault=_FAULTS[fault])
    (mesh / "rasterize_meshes.py").write_text(kernel)
    (folder / "pytorch3d" / "structures.py").write_text(_STRUCTURES)
    return folder


def first_on_path(folder: Path) -> str:
    """A PYTHONPATH on which this package comes before an installed one."""
    return os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
