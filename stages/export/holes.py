"""Holes closed: each border is a loop of sides, and is filled with triangles."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stages.export.model import Model

MOST_EARS = 2000
"""A longer loop is joined to its middle instead: ears take the square of the length."""


def fill(model: Model) -> tuple[Model, int]:
    """The model with its holes closed, and how many there were.

    Expects that sheets that only touch have vertices of their own: a border then leaves every
    vertex once. Sides that make no loop stay open.
    """
    loops = _loops(model.faces, len(model.vertices))
    if not loops:
        return model, 0
    uv_of = None if model.uv is None else _any_uv(model)
    vertices, faces, colors = [model.vertices], [model.faces], []
    uvs = [] if model.uv is None else [model.uv]
    count = len(model.vertices)
    for loop in loops:
        around = loop[::-1]  # the new faces run against the border
        made = _ears(model.vertices[around]) if len(around) <= MOST_EARS else None
        if made is None:
            here = np.arange(len(around))
            made = np.stack([here, np.roll(here, -1), np.full(len(here), len(here))], axis=1)
            vertices.append(model.vertices[around].mean(axis=0, keepdims=True))
            around = np.append(around, count)
            count += 1
            if model.colors is not None:
                colors.append(model.colors[loop].mean(axis=0, keepdims=True).astype(np.uint8))
        faces.append(around[made].astype(np.int32))
        if uv_of is not None:
            # One texel a face: the texture between two charts is nothing to look at.
            uvs.append(np.repeat(uv_of[around[made[:, 0]]][:, None], 3, axis=1))
    return replace(
        model,
        vertices=np.concatenate(vertices),
        faces=np.concatenate(faces),
        uv=np.concatenate(uvs) if uvs else None,
        colors=None if model.colors is None else np.concatenate([model.colors, *colors]),
    ), len(loops)


def _any_uv(model: Model) -> np.ndarray:
    """(V, 2) the texture coordinates of one corner at each vertex."""
    assert model.uv is not None
    found = np.zeros((len(model.vertices), 2), np.float32)
    found[model.faces.reshape(-1)] = model.uv.reshape(-1, 2)
    return found


def _loops(faces: np.ndarray, count: int) -> list[np.ndarray]:
    """Borders as rows of vertices, in the direction of the faces beside them."""
    corners = faces.astype(np.int64)
    start, end = corners.reshape(-1), np.roll(corners, -1, axis=1).reshape(-1)
    single = ~np.isin(start * count + end, end * count + start)
    following = dict(zip(start[single].tolist(), end[single].tolist(), strict=True))
    loops = []
    while following:
        first, at = following.popitem()
        loop = [first]
        while at != first and at in following:
            loop.append(at)
            at = following.pop(at)
        if at == first and len(loop) >= 3:
            loops.append(np.array(loop))
    return sorted(loops, key=lambda loop: int(loop.min()))


def _ears(points: np.ndarray) -> np.ndarray | None:
    """(n - 2, 3) triangles of a loop (n, 3), seen along its mean normal; None where its outline
    crosses itself from there.

    An ear is a corner that bends outwards and whose triangle holds no other corner (Meisters,
    "Polygons have ears", 1975).
    """
    normal = np.cross(points, np.roll(points, -1, axis=0)).sum(axis=0)
    length = float(np.linalg.norm(normal))
    if not length > 0.0:
        return None
    normal = normal / length
    right = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    right /= np.linalg.norm(right)
    flat = np.stack([points @ right, points @ np.cross(normal, right)], axis=1)
    left = list(range(len(points)))
    made, at, missed = [], 0, 0
    while len(left) > 3:
        if missed > len(left):
            return None
        a, b, c = (left[(at + k) % len(left)] for k in range(3))
        if _is_ear(flat, a, b, c, left):
            made.append((a, b, c))
            left.pop((at + 1) % len(left))
            missed = 0
        else:
            missed += 1
        at = (at + 1) % len(left)
    return np.array([*made, tuple(left)])


def _is_ear(flat: np.ndarray, a: int, b: int, c: int, left: list[int]) -> bool:
    corners = flat[[a, b, c]]
    if _cross(corners[0], corners[1], corners[2][None])[0] <= 0.0:
        return False
    others = flat[[k for k in left if k not in (a, b, c)]]
    inside = np.ones(len(others), bool)
    for one, two in ((0, 1), (1, 2), (2, 0)):
        inside &= _cross(corners[one], corners[two], others) >= 0.0
    return not inside.any()


def _cross(one: np.ndarray, two: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(n,) > 0 for points to the left of the way from one to two."""
    way, there = two - one, points - one
    return np.asarray(way[0] * there[:, 1] - way[1] * there[:, 0])
