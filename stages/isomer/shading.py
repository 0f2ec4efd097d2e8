"""Pictures of the final mesh: its vertex colours under soft light, on white."""

from __future__ import annotations

import numpy as np

from stages.contract import Mesh
from stages.contract.srgb import linear_to_srgb, srgb_to_linear
from stages.geometry.camera_rig import FOVY
from stages.geometry.cameras import Camera
from stages.geometry.raster import Rasterizer, interpolate
from stages.geometry.render import look, resolve

AZIMUTHS = (0.0, 90.0, 180.0, 270.0)
ELEVATION = 15.0
SAMPLES = 2
MARGIN = 1.05
"""Free space around the object's bounding sphere."""
LIGHT = np.array([-0.35, 0.55, 0.76])
"""Direction to the key light in camera axes (x right, y up, z towards the camera): it moves with
the camera, so that every view is lit alike."""
AMBIENT, KEY = 0.45, 0.65


def render_views(mesh: Mesh, normals: np.ndarray, size: int, rasterizer: Rasterizer) -> np.ndarray:
    """(4, size, size, 3) uint8 sRGB pictures from four sides, object centred and filling the frame.

    mesh with colours; normals (V, 3) unit. Light is computed per vertex in linear values and
    averaged over 2 x 2 samples a pixel.
    """
    assert mesh.colors is not None
    linear = srgb_to_linear(mesh.colors / 255.0)
    center = (mesh.vertices.min(axis=0) + mesh.vertices.max(axis=0)) / 2.0
    centred = mesh.vertices - center
    reach = max(float(np.linalg.norm(centred, axis=1).max()), 1e-6)
    radius = MARGIN * reach / float(np.sin(np.deg2rad(FOVY / 2.0)))
    pictures = []
    for azimuth in AZIMUTHS:
        camera = Camera(azimuth, ELEVATION, radius)
        fragments = look(centred, mesh.faces, camera, size, SAMPLES, rasterizer)
        lit = np.clip(linear * _brightness(normals @ camera.axes)[:, None], 0.0, 1.0)
        image = resolve(interpolate(fragments, mesh.faces, lit), fragments, SAMPLES)
        pictures.append(np.rint(linear_to_srgb(image) * 255.0).astype(np.uint8))
    return np.stack(pictures)


def _brightness(normals: np.ndarray) -> np.ndarray:
    """(V,) light on (V, 3) normals in camera axes: about 1 on surfaces that face the light.

    Ambient light comes from above rather than below; the key light wraps around ("half Lambert"),
    so no side is black.
    """
    sky = 0.5 + 0.5 * normals[:, 1]
    wrapped = (0.5 + 0.5 * (normals @ (LIGHT / np.linalg.norm(LIGHT)))) ** 2
    return np.asarray(AMBIENT * (0.6 + 0.4 * sky) + KEY * wrapped)
