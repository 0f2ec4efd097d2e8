"""Colours of a body of which several pictures are given, as the bundle's cameras see it.

A tile of which there is a picture takes that, spread beyond its outline so that the body's own
outline decides. Any other tile takes each point's colour from the pictures that see it, the more
the more it faces them, and from a guess of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stages.contract import Mesh
from stages.geometry.bundle import TILE
from stages.geometry.cameras import Camera, bundle_cameras
from stages.geometry.raster import Fragments, Rasterizer, interpolate
from stages.geometry.render import look, resolve, resolve_normals, vertex_normals
from stages.multiview.inflate.texture import bilinear, blurred_versions, by_stretch

SAMPLES = 2
"""Sample points a pixel each way."""
SHARPNESS = 4
"""Power of the cosine with which a picture counts."""
LEAST = 0.03
"""Cosine from which on a picture sees a surface at all."""
HIDDEN = 0.04
"""Scene units that a point may lie behind what a picture sees and still be what it sees."""


@dataclass(frozen=True)
class Guess:
    """Colours for a view without a picture.

    view    whose camera's tile positions `image` is in
    image   (S, S, 3) float32 in [0, 1], defined everywhere
    """

    view: int
    image: np.ndarray


def mosaic(
    body: Mesh,
    pictures: Mapping[int, tuple[np.ndarray, np.ndarray]],
    guesses: Mapping[int, Guess],
    rasterizer: Rasterizer,
) -> tuple[np.ndarray, np.ndarray]:
    """Colours and normal maps, each (4, 512, 512, 3) float32 in [0, 1].

    pictures  view (0 front, 1 left, 2 back, 3 right) -> its picture in its tile, (512, 512, 3) in
              [0, 1], and where that shows the object, (512, 512) in [0, 1]
    guesses   of views that have none, if there are any
    """
    cameras = bundle_cameras()
    seen = [look(body.vertices, body.faces, c, TILE, SAMPLES, rasterizer) for c in cameras]
    levels = {view: blurred_versions(*picture) for view, picture in pictures.items()}
    normals = vertex_normals(body.vertices, body.faces)
    attributes = np.concatenate([normals, body.vertices], axis=1)
    colors, maps = [], []
    for view, camera in enumerate(cameras):
        values = interpolate(seen[view], body.faces, attributes)
        maps.append(resolve_normals(values[..., :3], seen[view], camera, SAMPLES))
        covered = seen[view].covered
        normal, point = values[covered, :3], values[covered, 3:]
        if view in pictures:
            found = bilinear(levels[view][0], camera.project(point, TILE)[0])
        else:
            found = _blended(point, normal, levels, seen, guesses.get(view), camera)
        image = np.zeros((*covered.shape, 3), np.float32)
        image[covered] = np.clip(found, 0.0, 1.0)
        colors.append(resolve(image, seen[view], SAMPLES))
    return np.stack(colors), np.stack(maps)


def _blended(
    point: np.ndarray,
    normal: np.ndarray,
    levels: Mapping[int, tuple[np.ndarray, ...]],
    seen: list[Fragments],
    guess: Guess | None,
    own: Camera,
) -> np.ndarray:
    """(P, 3) colours of (P, 3) points with (P, 3) normals."""
    cameras = bundle_cameras()
    total = np.full((len(point), 3), 0.0, np.float32)
    weight = np.full((len(point), 1), 1e-9, np.float32)
    for view, versions in levels.items():
        at, depth = cameras[view].project(point, TILE)
        facing = _cosine(point, normal, cameras[view])
        share = np.maximum(facing, 0.0) ** SHARPNESS * _visible(at, depth, seen[view])
        # Where no picture sees anything, the one that nearly does is better than none.
        share = np.maximum(share, 1e-6 * np.maximum(facing + 1.0, 0.0))[:, None]
        total += share * by_stretch(versions, at, np.maximum(facing, LEAST))
        weight += share
    if guess is not None:
        share = np.maximum(_cosine(point, normal, own), LEAST)[:, None] ** SHARPNESS
        at, _ = cameras[guess.view].project(point, TILE)
        total += share * bilinear(guess.image, at)
        weight += share
    return np.asarray(total / weight)


def _cosine(point: np.ndarray, normal: np.ndarray, camera: Camera) -> np.ndarray:
    """(P,) float32 between the normals and the directions to the camera."""
    ray = camera.center - point
    length = np.linalg.norm(ray, axis=1) * np.maximum(np.linalg.norm(normal, axis=1), 1e-9)
    return np.asarray(np.einsum("pc,pc->p", normal, ray) / length, np.float32)


def _visible(at: np.ndarray, depth: np.ndarray, seen: Fragments) -> np.ndarray:
    """(P,) float32, 1 for points that are what a camera sees first."""
    size = len(seen.depth)
    column, row = np.moveaxis(np.clip(at * (size / TILE), 0, size - 1).astype(int), -1, 0)
    return np.asarray(depth <= seen.depth[row, column] + HIDDEN, np.float32)
