"""Pictures of the final mesh in its own colours, without light, as the bundle's cameras see it.

The colours come from pictures, so they have their light in them already. A mesh with a texture is
seen before that is painted (`look_around`), and drawn when it is (`draw`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stages.contract import Mesh
from stages.contract.srgb import linear_to_srgb, srgb_to_linear
from stages.geometry.camera_rig import BUNDLE_ELEVATION
from stages.geometry.cameras import Camera
from stages.geometry.raster import Rasterizer, interpolate
from stages.geometry.render import coverage, look
from stages.geometry.threads import in_threads
from stages.isomer.projection import sample

SIDES = tuple((azimuth, BUNDLE_ELEVATION) for azimuth in (0.0, 90.0, 180.0, 270.0))
ASKEW = (30.0, 20.0)
"""Azimuth and elevation, in degrees, of one more look, which shows the depth."""
SAMPLES = 2
"""Each way, in a pixel."""


@dataclass(frozen=True)
class Seen:
    """What one camera sees, S pixels a side.

    covered  (2 S, 2 S) bool, samples that show the mesh
    there    (n, C) float32, what the mesh's vertices were given, at those samples in row order
    share    (S, S) float32 in [0, 1], how much of each pixel is covered
    """

    covered: np.ndarray
    there: np.ndarray
    share: np.ndarray


def look_around(
    vertices: np.ndarray,
    faces: np.ndarray,
    attributes: np.ndarray,
    size: int,
    radius: float,
    rasterizer: Rasterizer,
    threads: int = 1,
) -> list[Seen]:
    """What is seen of (F, 3) faces over vertices (V, 3) with attributes (V, C): from the front,
    left, back and right, and once more askew.

    radius: distance of the cameras from the origin, as of the bundle's
    """

    def seen(side: tuple[float, float]) -> Seen:
        fragments = look(vertices, faces, Camera(*side, radius), size, SAMPLES, rasterizer)
        there = interpolate(fragments, faces, attributes)[fragments.covered]
        return Seen(fragments.covered, there, coverage(fragments, SAMPLES))

    return in_threads(seen, (*SIDES, ASKEW), threads)


def draw(
    looks: Sequence[Seen], light_of: Callable[[np.ndarray], np.ndarray], threads: int = 1
) -> np.ndarray:
    """(K, S, S, 4) uint8: sRGB on white and coverage, 255 = the mesh. Means of a pixel's samples.

    light_of  `Seen.there` (n, C) -> (n, 3) linear light in [0, 1]

    The same for any number of threads.
    """

    def picture(seen: Seen) -> np.ndarray:
        samples = np.ones((*seen.covered.shape, 3), np.float32)
        samples[seen.covered] = light_of(seen.there)
        rows = samples[1::2] + samples[::2]
        light = (rows[:, 1::2] + rows[:, ::2]) / np.float32(SAMPLES**2)
        drawn = np.concatenate([linear_to_srgb(light), seen.share[..., None]], axis=-1)
        return np.rint(drawn * 255.0).astype(np.uint8)

    return np.stack(in_threads(picture, looks, threads))


def render_views(
    mesh: Mesh, size: int, radius: float, rasterizer: Rasterizer, threads: int = 1
) -> np.ndarray:
    """(5, size, size, 4) uint8 of a mesh with colours at its vertices; see `draw`."""
    assert mesh.colors is not None
    light = srgb_to_linear(mesh.colors / 255.0).astype(np.float32)
    looks = look_around(mesh.vertices, mesh.faces, light, size, radius, rasterizer, threads)
    return draw(looks, lambda there: there, threads)


def draw_textured(looks: Sequence[Seen], texture: np.ndarray, threads: int = 1) -> np.ndarray:
    """`draw` of what is seen of a mesh whose attributes are texture coordinates, v down.

    texture: (H, W, 3) uint8 sRGB
    """
    light = srgb_to_linear(np.arange(256) / 255.0).astype(np.float32)[texture]
    side = np.array(texture.shape[1::-1], np.float32)
    return draw(looks, lambda uv: sample(light, uv * side), threads)
