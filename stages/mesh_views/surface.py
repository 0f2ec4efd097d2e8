"""A mesh as the cameras look at it: triangles, and what each corner of them shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from stages.contract import BadInput

MOST_EXTENT = 1e12
"""Coordinates beyond it are no object's, and their areas no numbers."""
_MEND = "Open it in a 3D program, check it, and save it as .glb."


@dataclass(frozen=True)
class Material:
    """What a part of the surface is made of.

    color    (3,) linear light in [0, 1], times the picture and the corners' colours
    picture  an encoded picture, sRGB, with alpha if it has any; b"" for none
    name     the picture's, for messages
    alpha    what the picture's alpha means: nothing; a hole below `cutoff`; translucency
    wrap     of u and v: "repeat", "clamp" or "mirror"
    stated   whether a file says so: False for what stands in for a material that is not there
    """

    color: tuple[float, float, float] = (1.0, 1.0, 1.0)
    picture: bytes = b""
    name: str = ""
    alpha: Literal["opaque", "mask", "blend"] = "opaque"
    cutoff: float = 0.5
    wrap: tuple[str, str] = ("repeat", "repeat")
    stated: bool = True


@dataclass(frozen=True)
class Part:
    """Triangles of one material.

    points   (V, 3) float64
    corners  (F, 3) int64 into them
    uv       (F, 3, 2) float, v down; None without
    colors   (F, 3, 3) float, linear light; None without
    normals  (F, 3, 3) float, of any length; None without
    """

    points: np.ndarray
    corners: np.ndarray
    material: Material
    uv: np.ndarray | None = None
    colors: np.ndarray | None = None
    normals: np.ndarray | None = None


@dataclass(frozen=True)
class Surface:
    """All parts as one, vertices at the same place joined. Arrays as in `Part`, but

    points    (V, 3) float64, each of them used
    corners   (F, 3) int32, faces without area left out
    colors    (F, 3, 3) float32: 1 where a part has none; None where none has any
    uv        (F, 3, 2) float32: 0 where a part has none; None where none has any
    has_uv    whether all parts have them
    normals   (F, 3, 3) float32 unit; None where a part has none, or one of length 0
    material  (F,) int32 into `materials`
    """

    points: np.ndarray
    corners: np.ndarray
    material: np.ndarray
    materials: tuple[Material, ...]
    uv: np.ndarray | None
    has_uv: bool
    colors: np.ndarray | None
    normals: np.ndarray | None

    @property
    def colored(self) -> bool:
        """Whether the file says anything of colours."""
        return self.colors is not None or any(one.stated for one in self.materials)

    def turned_inside_out(self) -> Surface:
        """The same with the other side of every face in front."""
        swapped = [0, 2, 1]

        def swap(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[:, swapped]

        return replace(
            self,
            corners=self.corners[:, swapped],
            uv=swap(self.uv),
            colors=swap(self.colors),
            normals=swap(self.normals),
        )


def join(parts: Sequence[Part]) -> Surface:
    """One surface of all parts. Raises BadInput for one without a face that has an area."""
    parts = [part for part in parts if len(part.corners)]
    if not parts:
        raise BadInput("the mesh has no faces", "Point clouds and lines are not meshes.")
    offsets = np.cumsum([0, *(len(part.points) for part in parts)])
    points = np.concatenate([part.points for part in parts])
    corners = np.concatenate(
        [part.corners.astype(np.int64) + at for part, at in zip(parts, offsets, strict=False)]
    )
    _check_corners(parts)
    used, corners = np.unique(corners, return_inverse=True)
    points, corners = points[used], corners.reshape(-1, 3)
    if not np.isfinite(points).all() or np.abs(points).max() > MOST_EXTENT:
        raise BadInput("the mesh has coordinates that are no numbers to work with", _MEND)
    # Vertices at one place are one: an STL has none in common, a GLB splits them along seams.
    points, inverse = _distinct(points + 0.0)
    corners = inverse[corners]
    kept = _with_area(points, corners)
    if not kept.any():
        raise BadInput("the mesh has no face with an area: it is a point or a line", _MEND)
    materials = tuple(dict.fromkeys(part.material for part in parts))
    counts = [len(part.corners) for part in parts]
    material = np.repeat([materials.index(part.material) for part in parts], counts)
    used, corners = np.unique(corners[kept], return_inverse=True)
    return Surface(
        points[used],
        corners.reshape(-1, 3).astype(np.int32),
        material[kept].astype(np.int32),
        materials,
        _joined([part.uv for part in parts], counts, kept, 2, 0.0),
        all(part.uv is not None for part in parts),
        _joined([part.colors for part in parts], counts, kept, 3, 1.0),
        _unit([part.normals for part in parts], kept),
    )


def _distinct(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Different rows of (n, 3) in order, and for each row (n,) which it is. Six times faster than
    np.unique over rows: an STL of a million faces has three million."""
    order = np.lexsort(points.T[::-1])
    ordered = points[order]
    new = np.ones(len(points), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    which = np.empty(len(points), np.int64)
    which[order] = np.cumsum(new) - 1
    return ordered[new], which


def _check_corners(parts: Sequence[Part]) -> None:
    for part in parts:
        if part.corners.min() < 0 or part.corners.max() >= len(part.points):
            raise BadInput("a face of the mesh names a vertex that is not there", _MEND)


def _with_area(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """(F,) bool"""
    a, b, c = (points[corners[:, corner]] for corner in range(3))
    doubled = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    extent = float(np.ptp(points, axis=0).max()) if len(points) else 0.0
    return np.asarray(doubled > 1e-14 * extent * extent)


def _joined(
    values: Sequence[np.ndarray | None],
    counts: Sequence[int],
    kept: np.ndarray,
    width: int,
    missing: float,
) -> np.ndarray | None:
    if all(one is None for one in values):
        return None
    filled = [
        np.full((count, 3, width), missing, np.float32) if one is None else one.astype(np.float32)
        for one, count in zip(values, counts, strict=True)
    ]
    return np.nan_to_num(np.concatenate(filled)[kept], posinf=0.0, neginf=0.0)


def _unit(values: Sequence[np.ndarray | None], kept: np.ndarray) -> np.ndarray | None:
    if any(one is None for one in values):
        return None
    normals = np.concatenate([one for one in values if one is not None])[kept].astype(np.float64)
    length = np.linalg.norm(normals, axis=2, keepdims=True)
    if not (np.isfinite(length) & (length > 1e-6)).all():
        return None
    return (normals / length).astype(np.float32)
