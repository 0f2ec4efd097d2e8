"""Objects made in code, and pictures of them from their four sides, of which the truth is known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import trimesh
from PIL import Image

from stages.contract import Mesh
from stages.geometry.cameras import Camera, bundle_cameras
from stages.geometry.raster import interpolate, open_rasterizer
from stages.geometry.render import coverage, look, resolve

SIDES = ("front", "left", "back", "right")
SAMPLES = 3
"""Sample points a pixel, each way."""

BLUE, SKIN, RED, GREEN, YELLOW = (
    (60, 90, 170), (230, 190, 150), (200, 50, 40), (60, 150, 70), (235, 200, 60),
)  # fmt: skip


def toy() -> Mesh:
    """A figure of which every side looks different: a round body, a head with a red nose in front,
    a green pack behind, a yellow arm on its own left. Deeper than wide by a fifth."""
    return _joined(
        [
            (_ball(0.4, (0.0, -0.35, 0.0), (1.0, 1.1, 0.9)), BLUE),
            (_ball(0.3, (0.0, 0.35, 0.05)), SKIN),
            (_ball(0.1, (0.0, 0.35, 0.36)), RED),
            (_ball(0.26, (0.0, -0.2, -0.42), (1.0, 1.2, 0.8)), GREEN),
            (_ball(0.12, (0.42, -0.3, 0.0), (1.0, 2.0, 1.0)), YELLOW),
        ]
    )


def pictures_of(mesh: Mesh, size: int, cameras: Sequence[Camera] = ()) -> dict[str, Image.Image]:
    """side -> what its camera sees, (size, size) RGBA; colours at the outline are the object's."""
    assert mesh.colors is not None
    rasterizer = open_rasterizer("cpu")
    found = {}
    for name, camera in zip(SIDES, cameras or bundle_cameras(), strict=True):
        seen = look(mesh.vertices, mesh.faces, camera, size, SAMPLES, rasterizer)
        share = coverage(seen, SAMPLES)[..., None]
        colors = interpolate(seen, mesh.faces, mesh.colors / 255.0)
        rgb = resolve(colors, seen, SAMPLES, background=0.0) / np.maximum(share, 1e-6)
        pixels = np.rint(np.concatenate([np.minimum(rgb, 1.0), share], axis=2) * 255.0)
        found[name] = Image.fromarray(pixels.astype(np.uint8))
    return found


def _ball(
    radius: float, at: Sequence[float], stretch: Sequence[float] = (1.0, 1.0, 1.0)
) -> trimesh.Trimesh:
    shape = trimesh.creation.icosphere(4, radius)
    shape.apply_scale(np.array(stretch))
    shape.apply_translation(at)
    return shape


def _joined(parts: Sequence[tuple[trimesh.Trimesh, tuple[int, int, int]]]) -> Mesh:
    start, vertices, faces, colors = 0, [], [], []
    for shape, color in parts:
        vertices.append(np.asarray(shape.vertices))
        faces.append(np.asarray(shape.faces) + start)
        colors.append(np.tile(np.array(color, np.uint8), (len(shape.vertices), 1)))
        start += len(shape.vertices)
    return Mesh(
        np.concatenate(vertices).astype(np.float32),
        np.concatenate(faces).astype(np.int32),
        np.concatenate(colors),
    )
