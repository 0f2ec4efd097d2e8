"""Multi-view projection: the colour that several pictures give to every vertex.

Reference ISOMER, colour projection. A view counts for a vertex with the weight
s = |n . d|^p * w * alpha, with n the vertex normal, d the viewing direction, w the view's weight
and alpha the softened mask at the vertex. What differs from the reference is named by an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stages.geometry.cameras import Camera

Direction = Literal["ray", "axis"]
"""Viewing direction: the ray to each vertex, or one optical axis a view (the reference)."""


@dataclass(frozen=True)
class View:
    """One picture and its camera.

    image   (S, S, C) float, C channels to be projected
    alpha   (S, S) float in [0, 1], how far a pixel may be trusted
    weight  relative weight of the view, > 0
    """

    camera: Camera
    image: np.ndarray
    alpha: np.ndarray
    weight: float


@dataclass(frozen=True)
class Evidence:
    """What all views together say: value (V, C) = sum of s * colour, weight (V,) = sum of s."""

    value: np.ndarray
    weight: np.ndarray

    def mean(self) -> np.ndarray:
        """(V, C) weighted mean colour, 0 where no view counts."""
        safe = np.where(self.weight > 0.0, self.weight, 1.0)
        return self.value / safe[:, None]

    def blend(self, base: np.ndarray, threshold: float) -> np.ndarray:
        """The mean where the weight reaches `threshold`, sliding to `base` as it falls to 0.

        This is the reference's strategy "smooth" (its base is black).
        """
        missing = np.maximum(threshold - self.weight, 0.0)[:, None]
        total = np.maximum(self.weight, threshold)[:, None]
        return (self.value + base * missing) / total

    def replace(self, base: np.ndarray, threshold: float) -> np.ndarray:
        """The mean where the weight exceeds `threshold`, else `base` (strategy "original")."""
        return np.where(self.weight[:, None] > threshold, self.mean(), base)


def view_cosines(
    vertices: np.ndarray, normals: np.ndarray, camera: Camera, direction: Direction
) -> np.ndarray:
    """(V,) cosine between each vertex normal and the direction back to the camera: 1 is face on."""
    if direction == "axis":
        return np.asarray(normals @ camera.axes[:, 2])
    back = camera.center - vertices
    back /= np.linalg.norm(back, axis=1, keepdims=True)
    return np.einsum("vc,vc->v", normals, back)


def sample(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Bilinear look-up.

    image (S, T, C); pixels (N, 2) column and row, pixel (i, j)'s centre at (j + 0.5, i + 0.5);
    points beyond the outermost centres take the border's colour. Returns (N, C) float64.
    """
    height, width = image.shape[:2]
    x = np.clip(pixels[:, 0] - 0.5, 0.0, width - 1.0)
    y = np.clip(pixels[:, 1] - 0.5, 0.0, height - 1.0)
    left = np.minimum(x.astype(np.int64), max(width - 2, 0))
    top = np.minimum(y.astype(np.int64), max(height - 2, 0))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    fx, fy = (x - left)[:, None], (y - top)[:, None]
    upper = image[top, left] * (1.0 - fx) + image[top, right] * fx
    lower = image[bottom, left] * (1.0 - fx) + image[bottom, right] * fx
    return np.asarray(upper * (1.0 - fy) + lower * fy)


def gather(
    vertices: np.ndarray,
    normals: np.ndarray,
    views: Sequence[View],
    visible: np.ndarray,
    power: float,
    direction: Direction,
) -> Evidence:
    """Project all views onto the vertices.

    vertices, normals (V, 3), frame W; visible (K, V) in [0, 1], how far view k sees vertex v (see
    visibility.py); power p of the cosine: 2 for colours, 1 for normals in the reference.
    """
    points = vertices.astype(np.float64)
    value = np.zeros((len(points), views[0].image.shape[2]))
    weight = np.zeros(len(points))
    for view, seen in zip(views, visible, strict=True):
        height = view.image.shape[0]
        ids = np.flatnonzero(seen > 0.0)
        pixels, depth = view.camera.project(points[ids], height)
        inside = (pixels >= 0.0).all(axis=1) & (pixels <= height).all(axis=1) & (depth > 0.0)
        ids, pixels = ids[inside], pixels[inside]
        cosine = np.abs(view_cosines(points[ids], normals[ids], view.camera, direction))
        trust = sample(view.alpha[..., None], pixels)[:, 0] * seen[ids]
        share = cosine**power * view.weight * trust
        weight[ids] += share
        value[ids] += share[:, None] * sample(view.image, pixels)
    return Evidence(value, weight)


def overwrite(
    base: np.ndarray, vertices: np.ndarray, views: Sequence[View], visible: np.ndarray
) -> np.ndarray:
    """Colours after each view in turn has written c alpha + old (1 - alpha) where it sees.

    base (V, C), vertices (V, 3), visible (K, V); returns (V, C). What the reference computes
    beside its projection: it writes into a copy that is thrown away.
    """
    written = np.array(base, np.float64)
    points = vertices.astype(np.float64)
    for view, seen in zip(views, visible, strict=True):
        ids = np.flatnonzero(seen > 0.0)
        pixels, depth = view.camera.project(points[ids], view.image.shape[0])
        inside = (pixels >= 0.0).all(axis=1) & (pixels <= len(view.image)).all(axis=1)
        ids, pixels = ids[inside & (depth > 0.0)], pixels[inside & (depth > 0.0)]
        alpha = sample(view.alpha[..., None], pixels)
        written[ids] = alpha * sample(view.image, pixels) + (1.0 - alpha) * written[ids]
    return written
