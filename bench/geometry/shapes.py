"""Meshes that we know because we made them: the truths of bench/geometry/quality.py.

Each is a `Mesh` in frame W (y up, front +z), bounding box centred, longest side 1.6, with vertex
colours that have a fixed light baked in. Parts overlap where they join, so surface may lie inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import trimesh

from stages.contract import Mesh
from stages.geometry.render import vertex_normals

LONGEST_SIDE = 1.6
"""Just fits the bundle's cameras with its corner towards them."""
LIGHT = np.array([0.35, 0.6, 0.72]) / np.linalg.norm([0.35, 0.6, 0.72])

Color = tuple[int, int, int]
Part = tuple[trimesh.Trimesh, Color]

CLAY, CREAM, RED, BLUE, GREEN, GRAY = (
    (196, 120, 80), (230, 205, 160), (190, 60, 50), (60, 90, 170), (80, 150, 80), (120, 120, 125),
)  # fmt: skip


def sphere() -> Mesh:
    return _together([(trimesh.creation.icosphere(5), RED)])


def box() -> Mesh:
    """Turned by 35 degrees, so that the front view shows two sides."""
    shape = trimesh.creation.box((1.0, 1.3, 0.7))
    shape.apply_transform(_turn(35.0, (0, 1, 0)))
    return _together([(shape, BLUE)], flat=True)


def chair() -> Mesh:
    """Boxes: a seat, a back, four legs; turned by 25 degrees."""
    parts = [_block((1.0, 0.1, 1.0), (0, 0, 0)), _block((1.0, 1.0, 0.1), (0, 0.5, -0.45))]
    parts += [_block((0.1, 0.9, 0.1), (x, -0.45, z)) for x in (-0.44, 0.44) for z in (-0.44, 0.44)]
    for part in parts:
        part.apply_transform(_turn(25.0, (0, 1, 0)))
    return _together([(part, CLAY) for part in parts], flat=True)


def torus_knot() -> Mesh:
    """A tube of radius 0.24 along the (2, 3) knot on a torus of radii 1 and 0.45."""
    t = np.linspace(0.0, 2.0 * np.pi, 480, endpoint=False)
    ring = 1.0 + 0.45 * np.cos(3.0 * t)
    curve = np.stack([ring * np.cos(2 * t), ring * np.sin(2 * t), 0.45 * np.sin(3 * t)], axis=1)
    return _together([(_tube(curve, np.full(len(t), 0.24), closed=True), GREEN)])


def teapot() -> Mesh:
    """A revolved body with a knob, a bent spout and a handle."""
    body = _revolved(
        (0, -0.55), (0.4, -0.55), (0.62, -0.42), (0.74, -0.2), (0.76, 0.0), (0.68, 0.22),
        (0.5, 0.4), (0.42, 0.44), (0.3, 0.52), (0.12, 0.58), (0.07, 0.62), (0.13, 0.7),
        (0.1, 0.77), (0, 0.8),
    )  # fmt: skip
    t = np.linspace(0.0, 1.0, 40)[:, None]
    spout = np.hstack([0.6 + 0.62 * t, -0.2 + 0.55 * t**1.6, 0.0 * t])
    a = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 60)[:, None]
    handle = np.hstack([-0.66 - 0.42 * np.cos(a), 0.02 + 0.32 * np.sin(a), 0.0 * a])
    return _together(
        [
            (body, CREAM),
            (_tube(spout, 0.17 - 0.09 * t[:, 0]), RED),
            (_tube(handle, np.full(60, 0.07)), RED),
        ]
    )


def urn() -> Mesh:
    """A vessel with a thin wall, open at the top: its inside is no part of any outline."""
    outer = [(0.35, -0.8), (0.55, -0.5), (0.6, -0.2), (0.45, 0.3), (0.32, 0.55), (0.42, 0.8)]
    inner = [(r - 0.05, y) for r, y in reversed(outer[1:])]
    return _together([(_revolved((0, -0.8), *outer, *inner, (0.28, -0.7), (0, -0.7)), BLUE)])


def animal() -> Mesh:
    """Capsules, seen from the side: body, neck, head, ears, four legs, tail."""
    bones = [
        ((-0.5, 0.0, 0.0), (0.45, 0.02, 0.0), 0.27),
        ((0.5, 0.05, 0.0), (0.78, 0.42, 0.0), 0.15),
        ((0.78, 0.48, 0.0), (1.05, 0.42, 0.0), 0.17),
        ((0.7, 0.6, 0.1), (0.66, 0.74, 0.12), 0.05),
        ((0.7, 0.6, -0.1), (0.66, 0.74, -0.12), 0.05),
        ((-0.7, 0.1, 0.0), (-1.0, 0.4, 0.0), 0.06),
    ]
    for x, swing in ((-0.52, -0.1), (0.42, 0.1)):
        for z in (-0.15, 0.15):
            bones.append(((x, -0.1, z), (x + swing * np.sign(z), -0.75, z), 0.1))
    return _together([(_capsule(*bone), CLAY) for bone in bones])


def figure() -> Mesh:
    """Capsules and a ball, seen from the front: a person with spread arms."""
    limbs = [
        ((0.0, -0.15, 0.0), (0.0, 0.25, 0.0), 0.2, BLUE),
        ((0.0, 0.4, 0.0), (0.0, 0.5, 0.0), 0.08, CREAM),
        ((0.0, 0.68, 0.02), (0.0, 0.72, 0.02), 0.17, CREAM),
    ]
    for side in (-1.0, 1.0):
        limbs.append(((side * 0.2, 0.35, 0.0), (side * 0.42, 0.05, 0.05), 0.08, BLUE))
        limbs.append(((side * 0.42, 0.05, 0.05), (side * 0.5, -0.25, 0.2), 0.065, CREAM))
        limbs.append(((side * 0.1, -0.3, 0.0), (side * 0.16, -0.95, 0.0), 0.1, GRAY))
        limbs.append(((side * 0.16, -1.0, 0.0), (side * 0.18, -1.0, 0.15), 0.08, RED))
    return _together([(_capsule(a, b, r), color) for a, b, r, color in limbs])


def table() -> Mesh:
    top = _block((1.4, 0.09, 0.9), (0, 0, 0))
    legs = [_block((0.1, 0.75, 0.1), (x, -0.4, z)) for x in (-0.6, 0.6) for z in (-0.35, 0.35)]
    return _turned([top, *legs], CLAY, 20.0)


def house() -> Mesh:
    """A low pitched roof that stands out over the walls."""
    gable = [(-0.85, 0.3), (0.85, 0.3), (0.85, 0.36), (0.0, 0.58), (-0.85, 0.36)]
    corners = [(x, y, z) for x, y in gable for z in (-0.65, 0.65)]
    return _turned([_block((1.5, 0.8, 1.1), (0, 0, 0)), _hull(corners)], CREAM, 30.0)


def bed() -> Mesh:
    parts = [_block((1.0, 0.3, 1.5), (0, 0, 0)), _block((1.0, 0.7, 0.1), (0, 0.1, -0.75))]
    parts += [_block((0.1, 0.3, 0.1), (x, -0.25, z)) for x in (-0.4, 0.4) for z in (-0.7, 0.7)]
    return _turned(parts, BLUE, 35.0)


def book() -> Mesh:
    """Open, lying on its back: two blocks of pages that fall away from the spine by 6 degrees."""
    pages = []
    for side in (-1.0, 1.0):
        block = _block((0.7, 0.14, 0.9), (0.35 * side, 0, 0))
        block.apply_transform(_turn(-6.0 * side, (0, 0, 1)))
        pages.append(block)
    return _turned(pages, CREAM, 15.0)


def bench() -> Mesh:
    parts = [_block((1.6, 0.12, 0.45), (0, 0, 0))]
    parts += [_block((0.12, 0.5, 0.4), (x, -0.25, 0)) for x in (-0.6, 0.6)]
    return _turned(parts, GREEN, 25.0)


def crate() -> Mesh:
    """A box that faces the front camera: its lid and its bottom are seen at 5 degrees or less."""
    return _turned([_block((1.3, 0.7, 1.0), (0, 0, 0))], CLAY, 0.0)


def hat() -> Mesh:
    """A crown with a flat top on a flat brim."""
    profile = ((0, 0), (0.8, 0), (0.8, 0.07), (0.42, 0.07), (0.38, 0.55), (0, 0.55))
    return _together([(_revolved(*profile), RED)], flat=True)


SHAPES: dict[str, Callable[[], Mesh]] = {
    make.__name__: make for make in (sphere, box, chair, torus_knot, teapot, urn, animal, figure)
}
FLAT: dict[str, Callable[[], Mesh]] = {
    make.__name__: make for make in (table, house, bed, book, bench, crate, hat)
}
"""Shapes with large parts that face up or down, which four views at one height hardly see."""


def _turned(parts: Sequence[trimesh.Trimesh], color: Color, degrees: float) -> Mesh:
    """Parts of one colour with sharp edges, turned about y."""
    for part in parts:
        part.apply_transform(_turn(degrees, (0, 1, 0)))
    return _together([(part, color) for part in parts], flat=True)


def _hull(corners: Sequence[tuple[float, float, float]]) -> trimesh.Trimesh:
    return trimesh.Trimesh(np.array(corners, np.float64)).convex_hull


def _together(parts: Sequence[Part], flat: bool = False) -> Mesh:
    """One coloured mesh. `flat`: faces do not share corners, so that edges stay sharp."""
    vertices, faces, colors, start = [], [], [], 0
    for shape, color in parts:
        corners, triangles = np.asarray(shape.vertices), np.asarray(shape.faces)
        if flat:
            corners = corners[triangles].reshape(-1, 3)
            triangles = np.arange(len(corners)).reshape(-1, 3)
        lit = vertex_normals(corners, triangles)
        shade = 0.62 + 0.14 * lit[:, 1] + 0.3 * np.maximum(lit @ LIGHT, 0.0)
        vertices.append(corners)
        faces.append(triangles + start)
        colors.append(np.clip(np.outer(shade, color), 0.0, 255.0))
        start += len(corners)
    placed = np.concatenate(vertices)
    low, high = placed.min(axis=0), placed.max(axis=0)
    placed = (placed - (low + high) / 2.0) * (LONGEST_SIDE / (high - low).max())
    return Mesh(
        placed.astype(np.float32),
        np.concatenate(faces).astype(np.int32),
        np.rint(np.concatenate(colors)).astype(np.uint8),
    )


def _turn(degrees: float, axis: tuple[float, float, float]) -> np.ndarray:
    return trimesh.transformations.rotation_matrix(np.radians(degrees), axis)


def _block(sides: tuple[float, float, float], at: tuple[float, float, float]) -> trimesh.Trimesh:
    shape = trimesh.creation.box(sides)
    shape.apply_translation(at)
    return shape


def _revolved(*profile: tuple[float, float]) -> trimesh.Trimesh:
    """Turn a polyline of (radius, height), from the axis back to it, about y."""
    shape = trimesh.creation.revolve(np.array(profile, np.float64), sections=96)
    shape.apply_transform(_turn(-90.0, (1, 0, 0)))
    if shape.volume < 0.0:
        shape.invert()
    return shape


def _capsule(start: Sequence[float], end: Sequence[float], radius: float) -> trimesh.Trimesh:
    """All points within `radius` of a segment."""
    along = np.subtract(end, start)
    shape = trimesh.creation.capsule(float(np.linalg.norm(along)), radius, count=(48, 48))
    shape.apply_translation(-shape.bounds.mean(axis=0))
    shape.apply_transform(trimesh.geometry.align_vectors((0, 0, 1), along))
    shape.apply_translation(np.add(start, end) / 2.0)
    return shape


def _tube(
    curve: np.ndarray, radii: np.ndarray, closed: bool = False, sides: int = 32
) -> trimesh.Trimesh:
    """Sweep circles of `radii` (N,) along (N, 3) points; open ends get a flat cap."""
    forward = np.roll(curve, -1, axis=0) - np.roll(curve, 1, axis=0)
    if not closed:
        forward[0], forward[-1] = curve[1] - curve[0], curve[-1] - curve[-2]
    forward /= np.linalg.norm(forward, axis=1, keepdims=True)
    normal = np.cross(forward[0], (0.36, 0.48, 0.8))
    rings = []
    turn = np.arange(sides) * 2.0 * np.pi / sides
    for point, ahead, radius in zip(curve, forward, radii, strict=True):
        normal = normal - (normal @ ahead) * ahead  # carried along with the least twist
        normal /= np.linalg.norm(normal)
        other = np.cross(ahead, normal)
        rings.append(
            point + radius * (np.outer(np.cos(turn), normal) + np.outer(np.sin(turn), other))
        )
    if closed:  # where the last circle meets the first, the twist is undone by renumbering
        gaps = [np.abs(np.roll(rings[0], k, axis=0) - rings[-1]).sum() for k in range(sides)]
        rings.append(np.roll(rings[0], int(np.argmin(gaps)), axis=0))
    index = np.arange(len(rings) * sides).reshape(len(rings), sides)
    a, b = index[:-1], index[1:]
    c, d = np.roll(b, -1, axis=1), np.roll(a, -1, axis=1)
    faces = [np.stack(corners, -1).reshape(-1, 3) for corners in ((a, d, c), (a, c, b))]
    points = np.concatenate(rings)
    if not closed:
        points = np.concatenate([points, curve[[0, -1]]])
        first, last = index[0], index[-1]
        start, end = np.full(sides, len(points) - 2), np.full(sides, len(points) - 1)
        faces.append(np.stack([start, np.roll(first, -1), first], axis=1))
        faces.append(np.stack([end, last, np.roll(last, -1)], axis=1))
    return trimesh.Trimesh(points, np.concatenate(faces), process=True)
