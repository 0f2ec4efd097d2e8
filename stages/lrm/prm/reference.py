"""Four views -> the bundle that Flux starts from: the views above the normals of their mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from stages.contract import Mesh
from stages.contract.srgb import linear_to_srgb
from stages.geometry.bundle import join
from stages.geometry.camera_rig import BUNDLE_AZIMUTHS
from stages.geometry.raster import Rasterizer
from stages.lrm.prm.cameras import FROM_ZERO123, ZERO123_FRONT
from stages.lrm.prm.model import Prm
from stages.lrm.prm.params import ReferenceParams
from stages.lrm.prm.render import render_bundle_colors, render_bundle_normals
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
    """(4, 512, 512, 3) uint8 views, front, left, back, right -> (1024, 2048, 3) float32 in [0, 1].

    The mesh is extracted once and rendered four times. Raises as `mesh_of`.
    """
    progress(0, 3, "read views")
    colors = views.astype(np.float32) / 255.0
    field = read_views(model, colors[list(FROM_ZERO123)], params.chunk_points)
    progress(1, 3, "extract mesh")
    mesh = mesh_of(field, params)
    progress(2, 3, "render")
    device = str(model.device)
    normals, _ = render_bundle_normals(
        mesh,
        AZIMUTHS,
        radius=params.radius,
        tilted=params.tilted_normals,
        rasterizer=rasterizer,
        device=device,
    )
    if params.rgb == "render":
        colors, _ = render_bundle_colors(
            lit_evenly(mesh), AZIMUTHS, radius=params.radius, rasterizer=rasterizer, device=device
        )
    progress(3, 3, "")
    return join(colors, normals)


def lit_evenly(mesh: Mesh) -> Mesh:
    """The mesh with the colours that it has under even white light.

    As in the reference's shading, the model's colours are taken for linear albedo and encoded to
    sRGB at the end; its environment map and highlights are left out.
    """
    assert mesh.colors is not None
    encoded = linear_to_srgb(mesh.colors / 255.0)
    return replace(mesh, colors=np.rint(encoded * 255.0).astype(np.uint8))
