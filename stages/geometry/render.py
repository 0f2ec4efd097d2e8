"""Images of a mesh with several samples a pixel: coverage, smooth normals, bundle normal tiles."""

from __future__ import annotations

import numpy as np

from stages.geometry.cameras import Camera, encode_normals
from stages.geometry.raster import Fragments, Rasterizer, interpolate


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) float32 unit normals, the area-weighted mean over a vertex' faces.

    vertices (V, 3), faces (F, 3) counter-clockwise from outside. A vertex without area gets
    (0, 0, 1).
    """
    corners = vertices.astype(np.float64)[faces]
    weighted = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.empty((len(vertices), 3))
    for axis in range(3):
        total[:, axis] = np.bincount(
            faces.ravel(), np.repeat(weighted[:, axis], 3), minlength=len(vertices)
        )
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.where(length > 1e-20, total / np.maximum(length, 1e-20), (0.0, 0.0, 1.0)).astype(
        np.float32
    )


def look(
    vertices: np.ndarray,
    faces: np.ndarray,
    camera: Camera,
    size: int,
    samples: int,
    rasterizer: Rasterizer,
) -> Fragments:
    """What `camera` sees, on a grid of (size * samples) x (size * samples) sample points."""
    side = size * samples
    return rasterizer.rasterize(camera.to_clip(vertices), faces, (side, side))


def coverage(fragments: Fragments, samples: int) -> np.ndarray:
    """(S, S) float32 in [0, 1]: the share of each pixel's samples that show the mesh."""
    return _box(fragments.covered.astype(np.float32)[..., None], samples)[..., 0]


def resolve(
    image: np.ndarray, fragments: Fragments, samples: int, background: float = 1.0
) -> np.ndarray:
    """(S * samples, S * samples, C) sample values -> (S, S, C) float32 over `background`."""
    filled = np.where(fragments.covered[..., None], image, np.float32(background))
    return _box(filled, samples)


def normal_tile(
    fragments: Fragments, faces: np.ndarray, normals: np.ndarray, camera: Camera, samples: int
) -> np.ndarray:
    """(S, S, 3) float32 in [0, 1]: a normal map in the bundle's encoding on white.

    normals  (V, 3) vertex normals in frame W
    """
    return resolve_normals(interpolate(fragments, faces, normals), fragments, camera, samples)


def resolve_normals(
    normals: np.ndarray, fragments: Fragments, camera: Camera, samples: int
) -> np.ndarray:
    """(S * samples, S * samples, 3) sample normals in frame W -> (S, S, 3) encoded, in [0, 1].

    Samples are averaged as vectors before encoding; the white background is blended in by
    coverage, as the reference does. Samples without a face must be 0.
    """
    mean = _box(normals, samples)
    length = np.linalg.norm(mean, axis=-1, keepdims=True)
    encoded = encode_normals(mean / np.maximum(length, 1e-8), camera)
    share = coverage(fragments, samples)[..., None]
    return np.clip(encoded * share + (1.0 - share), 0.0, 1.0).astype(np.float32)


def _box(image: np.ndarray, samples: int) -> np.ndarray:
    if samples == 1:
        return image.astype(np.float32, copy=False)
    # Sums of slices: several times faster than a mean over two axes of a reshaped array.
    steps = range(samples)
    rows = sum(image[i::samples] for i in steps[1:]) + image[::samples]
    total = sum(rows[:, j::samples] for j in steps[1:]) + rows[:, ::samples]
    return np.asarray(total / np.float32(samples * samples), np.float32)
