"""Four views -> the bundle that Flux starts from: the views above the normals of their mesh."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stages.common.bundle import TILE, join
from stages.common.cameras import BUNDLE_AZIMUTHS, Camera
from stages.common.raster import Rasterizer, interpolate
from stages.common.render import look, resolve
from stages.common.srgb import linear_to_srgb
from stages.contract import Mesh
from stages.lrm.prm.cameras import FROM_ZERO123, ZERO123_FRONT
from stages.lrm.prm.model import Prm
from stages.lrm.prm.params import ReferenceParams
from stages.lrm.prm.render import SAMPLES, render_normals
from stages.lrm.prm.surface import mesh_of, read_views

AZIMUTHS = tuple((ZERO123_FRONT + azimuth) % 360.0 for azimuth in BUNDLE_AZIMUTHS)
"""The bundle's columns in the frame of the mesh that is made of `views`: 270, 0, 90, 180."""


def reference_bundle(
    views: np.ndarray,
    model: Prm,
    params: ReferenceParams,
    rasterizer: Rasterizer,
    progress: Callable[[int, int, str], None],
) -> np.ndarray:
    """(4, S, S, 3) uint8 views, front, left, back, right -> (1024, 2048, 3) float32 in [0, 1]."""
    progress(0, 3, "read views")
    colors = views.astype(np.float32) / 255.0
    field = read_views(model, colors[list(FROM_ZERO123)], params.chunk_points)
    progress(1, 3, "extract mesh")
    mesh = mesh_of(field, params)
    progress(2, 3, "render")
    normals, _ = render_normals(
        mesh, AZIMUTHS, rasterizer, radius=params.radius, tilt=params.tilted_normals
    )
    if params.rgb == "render":
        colors = render_colors(mesh, rasterizer, params.radius)
    progress(3, 3, "")
    return np.clip(join(colors, normals), 0.0, 1.0).astype(np.float32)


def render_colors(mesh: Mesh, rasterizer: Rasterizer, radius: float) -> np.ndarray:
    """(4, 512, 512, 3) float32: the mesh' colours under even white light, on white.

    As in the reference's shading the model's colours are linear albedo, encoded to sRGB at the end;
    its environment map and highlights are left out.
    """
    assert mesh.colors is not None
    albedo = mesh.colors / np.float32(255.0)
    tiles = []
    for azimuth in AZIMUTHS:
        camera = Camera(azimuth, radius=radius)
        seen = look(mesh.vertices, mesh.faces, camera, TILE, SAMPLES, rasterizer)
        encoded = linear_to_srgb(interpolate(seen, mesh.faces, albedo)).astype(np.float32)
        tiles.append(resolve(encoded, seen, SAMPLES))
    return np.stack(tiles)
