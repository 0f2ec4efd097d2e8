"""Shapes as signed distance functions, and what can be made of several."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np

Points = np.ndarray  # (N, 3) float32: x right, y up, z towards the viewer
Field = Callable[[Points], np.ndarray]  # (N, 3) -> (N,) signed distance, negative inside


def vec(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def length(q: np.ndarray) -> np.ndarray:
    """Norm of each row; several times faster than np.linalg.norm on many short rows."""
    return np.sqrt(np.einsum("ij,ij->i", q, q))


def sphere(centre: np.ndarray, radius: float) -> Field:
    return lambda p: length(p - centre) - radius


def ellipsoid(centre: np.ndarray, radii: np.ndarray) -> Field:
    """First-order distance: exact at the surface, close to it elsewhere."""

    def field(p: Points) -> np.ndarray:
        q = p - centre
        k0 = length(q / radii)
        k1 = length(q / (radii * radii))
        return k0 * (k0 - 1.0) / np.maximum(k1, 1e-6)

    return field


def box(centre: np.ndarray, half: np.ndarray, rounding: float) -> Field:
    def field(p: Points) -> np.ndarray:
        q = np.abs(p - centre) - (half - rounding)
        largest = np.maximum(np.maximum(q[:, 0], q[:, 1]), q[:, 2])
        return length(np.maximum(q, 0.0)) + np.minimum(largest, 0.0) - rounding

    return field


def capsule(a: np.ndarray, b: np.ndarray, radius_a: float, radius_b: float | None = None) -> Field:
    """A rod with round ends whose radius runs from `radius_a` to `radius_b`."""
    end = radius_a if radius_b is None else radius_b
    axis = b - a

    def field(p: Points) -> np.ndarray:
        along = np.clip((p - a) @ axis / (axis @ axis), 0.0, 1.0)
        nearest = a + along[:, None] * axis
        return length(p - nearest) - (radius_a + along * (end - radius_a))

    return field


def cylinder(
    centre: np.ndarray, axis: int, radius: float, half_height: float, rounding: float
) -> Field:
    def field(p: Points) -> np.ndarray:
        q = p - centre
        radial = np.hypot(q[:, axis - 2], q[:, axis - 1]) - (radius - rounding)
        along = np.abs(q[:, axis]) - (half_height - rounding)
        outside = np.hypot(np.maximum(radial, 0.0), np.maximum(along, 0.0))
        return outside + np.minimum(np.maximum(radial, along), 0.0) - rounding

    return field


def torus(centre: np.ndarray, axis: int, radius: float, thickness: float) -> Field:
    def field(p: Points) -> np.ndarray:
        q = p - centre
        ring = np.hypot(q[:, axis - 2], q[:, axis - 1]) - radius
        return np.hypot(ring, q[:, axis]) - thickness

    return field


def union(*fields: Field) -> Field:
    return lambda p: reduce(np.minimum, (field(p) for field in fields))


def intersect(*fields: Field) -> Field:
    return lambda p: reduce(np.maximum, (field(p) for field in fields))


def subtract(field: Field, removed: Field) -> Field:
    return lambda p: np.maximum(field(p), -removed(p))


def blend(a: Field, b: Field, width: float) -> Field:
    """Union with a fillet of about `width` (quadratic smooth minimum)."""

    def field(p: Points) -> np.ndarray:
        da, db = a(p), b(p)
        h = np.maximum(width - np.abs(da - db), 0.0) / width
        return np.minimum(da, db) - 0.25 * width * h * h

    return field


def below(height: float) -> Field:
    return lambda p: p[:, 1] - height


def mirrored(field: Field) -> Field:
    """The same shape on both sides of the plane x = 0."""
    return lambda p: field(np.abs(p) * vec(1, 0, 0) + p * vec(0, 1, 1))


def turned(field: Field, degrees: float) -> Field:
    """`field` turned about the y axis; positive turns what faces the viewer to the right."""
    angle = np.deg2rad(degrees)
    c, s = float(np.cos(angle)), float(np.sin(angle))
    matrix = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]], np.float32)
    return lambda p: field(p @ matrix)
