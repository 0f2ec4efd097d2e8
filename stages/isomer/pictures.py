"""Pictures of the final mesh in its own colours, without light, as the bundle's cameras see it.

The colours come from pictures, so they have their light in them already.
"""

from __future__ import annotations

import numpy as np

from stages.contract import Mesh
from stages.contract.srgb import linear_to_srgb, srgb_to_linear
from stages.geometry.camera_rig import BUNDLE_ELEVATION
from stages.geometry.cameras import Camera
from stages.geometry.raster import Rasterizer, interpolate
from stages.geometry.render import coverage, look, resolve
from stages.geometry.threads import in_threads

SIDES = tuple((azimuth, BUNDLE_ELEVATION) for azimuth in (0.0, 90.0, 180.0, 270.0))
ASKEW = (30.0, 20.0)
"""Azimuth and elevation, in degrees, of one more look, which shows the depth."""
SAMPLES = 2


def render_views(
    mesh: Mesh, size: int, radius: float, rasterizer: Rasterizer, threads: int = 1
) -> np.ndarray:
    """(5, size, size, 4) uint8: sRGB on white and coverage, 255 = the mesh.

    Of the front, left, back and right, and once more askew.

    mesh with colours; radius: distance of the cameras from the origin, as of the bundle's. Averaged
    over 2 x 2 samples a pixel, in linear values. The same for any number of threads.
    """
    assert mesh.colors is not None
    linear = srgb_to_linear(mesh.colors / 255.0).astype(np.float32)

    def picture(side: tuple[float, float]) -> np.ndarray:
        camera = Camera(*side, radius)
        fragments = look(mesh.vertices, mesh.faces, camera, size, SAMPLES, rasterizer)
        image = resolve(interpolate(fragments, mesh.faces, linear), fragments, SAMPLES)
        share = coverage(fragments, SAMPLES)[..., None]
        drawn = np.concatenate([linear_to_srgb(image), share], axis=-1)
        return np.rint(drawn * 255.0).astype(np.uint8)

    return np.stack(in_threads(picture, (*SIDES, ASKEW), threads))
