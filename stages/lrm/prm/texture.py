"""The model's colours as a UV texture: sharper than vertex colours, the field being continuous."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from stages.contract import Mesh, StageError
from stages.geometry.raster import Rasterizer, interpolate
from stages.lrm.prm.cameras import w_to_t
from stages.lrm.prm.field import TriplaneField

ROUGHNESS = 0.9
"""What the reference renders with, whatever the model's material says; nothing is metallic."""
PADDING = 2
"""Texels between charts, so that bilinear lookups stay inside their own."""


@dataclass(frozen=True)
class Unwrapped:
    """A mesh cut open along the seams of its charts.

    origin  (U,) int, the vertex of the mesh that each vertex was
    faces   (F, 3) int32 into those
    uv      (U, 2) float32 in [0, 1]; v points down, as in glTF
    """

    origin: np.ndarray
    faces: np.ndarray
    uv: np.ndarray


Unwrap = Callable[[Mesh, int], Unwrapped]


def require_xatlas() -> None:
    """Raises StageError (missing_dependency) where xatlas is not installed."""
    try:
        import xatlas  # noqa: F401
    except ImportError as error:
        raise StageError(
            "missing_dependency",
            f"a texture needs xatlas, which cannot be imported: {error}",
            "pip install kiss3d-orchestrate[texture], or texture_size=0",
        ) from error


def unwrap_with_xatlas(mesh: Mesh, size: int) -> Unwrapped:
    """Charts packed for a texture of size x size."""
    import xatlas

    atlas = xatlas.Atlas()
    atlas.add_mesh(mesh.vertices, mesh.faces.astype(np.uint32))
    packing = xatlas.PackOptions()
    packing.resolution = size
    packing.padding = PADDING
    atlas.generate(xatlas.ChartOptions(), packing)
    origin, faces, uv = atlas[0]
    return Unwrapped(origin.astype(np.int64), faces.astype(np.int32), uv.astype(np.float32))


def textured_glb(
    field: TriplaneField,
    mesh: Mesh,
    size: int,
    rasterizer: Rasterizer,
    unwrap: Unwrap = unwrap_with_xatlas,
) -> bytes:
    """A .glb file of the mesh with a texture of size x size texels.

    mesh in frame W, as `surface.mesh_of` gives it for the same field.
    """
    import trimesh
    from PIL import Image

    cut = unwrap(mesh, size)
    positions = mesh.vertices[cut.origin]
    texture = bake(field, positions, cut, size, rasterizer)
    material = trimesh.visual.material.PBRMaterial(
        name="colors",
        baseColorTexture=Image.fromarray(texture),
        metallicFactor=0.0,
        roughnessFactor=ROUGHNESS,
    )
    upward = np.column_stack([cut.uv[:, 0], 1.0 - cut.uv[:, 1]])  # trimesh turns v over again
    visual = trimesh.visual.TextureVisuals(uv=upward, material=material)
    shape = trimesh.Trimesh(positions, cut.faces, visual=visual, process=False)
    exported = shape.export(file_type="glb")
    assert isinstance(exported, bytes)
    return exported


def bake(
    field: TriplaneField, positions: np.ndarray, cut: Unwrapped, size: int, rasterizer: Rasterizer
) -> np.ndarray:
    """(size, size, 3) uint8 sRGB: the field's colour where each texel lies on the surface.

    positions (U, 3) in frame W. Texels without surface take the nearest colour.
    """
    from scipy import ndimage

    x, y = 2.0 * cut.uv[:, 0] - 1.0, 1.0 - 2.0 * cut.uv[:, 1]
    clip = np.stack([x, y, np.zeros_like(x), np.ones_like(x)], axis=1)
    fragments = rasterizer.rasterize(clip, cut.faces, (size, size))
    points = interpolate(fragments, cut.faces, w_to_t(positions))[fragments.covered]
    colors = field.colors(torch.from_numpy(points).to(field.device))
    texture = np.zeros((size, size, 3), np.uint8)
    texture[fragments.covered] = (colors * 255.0).to(torch.uint8).cpu().numpy()
    rows, columns = ndimage.distance_transform_edt(
        ~fragments.covered, return_distances=False, return_indices=True
    )
    return np.asarray(texture[rows, columns])
