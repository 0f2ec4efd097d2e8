"""Draw the example pictures: a toy robot, a mug and a mushroom house.

    python examples/make_images.py [--out FOLDER] [--size PIXELS] [NAME ...]

Everything is modelled here, as signed distance functions that a small sphere tracer renders with
NumPy (Hart, "Sphere tracing", 1996). The pictures show what inputs may look like:

    robot.png      transparent background
    mug.png        opaque, on a light gradient with a soft shadow; the handle's hole is background
    mushroom.png   opaque, on plain white
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from PIL import Image

Points = np.ndarray  # (N, 3) float32: x right, y up, z towards the viewer
Field = Callable[[Points], np.ndarray]  # (N, 3) -> (N,) signed distance, negative inside
Paint = Callable[[Points], np.ndarray]  # (N, 3) -> (N, 3) linear colour in [0, 1]

SUPERSAMPLING = 3
CAMERA = 6.0
"""Distance of the camera from the origin; a scene's `reach` fills the picture."""


# --- shapes ---------------------------------------------------------------------------------------


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


# --- materials ------------------------------------------------------------------------------------


def srgb(text: str) -> np.ndarray:
    """ "#rrggbb" -> linear colour."""
    code = np.array([int(text[i : i + 2], 16) for i in (1, 3, 5)], np.float32) / 255.0
    linear: np.ndarray = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    return linear.astype(np.float32)


def plain(colour: str) -> Paint:
    value = srgb(colour)
    return lambda p: np.broadcast_to(value, p.shape)


@dataclass(frozen=True)
class Part:
    """gloss 0 is matt, 1 is glazed; glow is light that the part sends out by itself."""

    field: Field
    paint: Paint
    gloss: float = 0.3
    glow: float = 0.0


@dataclass(frozen=True)
class Scene:
    """`reach` is the radius around the origin that holds every part."""

    parts: tuple[Part, ...]
    background: str  # "transparent", "white" or "studio"
    azimuth: float
    elevation: float
    reach: float
    floor: float = -1.0

    def distance(self, p: Points) -> np.ndarray:
        return reduce(np.minimum, (part.field(p) for part in self.parts))

    def nearest_part(self, p: Points) -> np.ndarray:
        return np.argmin([part.field(p) for part in self.parts], axis=0)


# --- scenes ---------------------------------------------------------------------------------------


def robot() -> Scene:
    teal, cream, coral, steel = "#2f9aa8", "#f2dfba", "#ee6a4d", "#98a6b3"
    smile = intersect(torus(vec(0, 0.475, 0.372), 2, 0.085, 0.016), below(0.445))
    return Scene(
        parts=(
            Part(box(vec(0, 0.50, 0), vec(0.43, 0.31, 0.34), 0.15), plain(cream), 0.35),
            Part(box(vec(0, 0.50, 0.27), vec(0.33, 0.215, 0.1), 0.09), plain("#1d2737"), 0.9),
            Part(
                mirrored(ellipsoid(vec(0.145, 0.535, 0.36), vec(0.062, 0.078, 0.03))),
                plain("#9df3ff"),
                0.2,
                0.75,
            ),
            Part(smile, plain("#9df3ff"), 0.2, 0.75),
            Part(mirrored(cylinder(vec(0.455, 0.5, 0), 0, 0.13, 0.055, 0.03)), plain(coral)),
            Part(capsule(vec(0, 0.78, 0), vec(0, 0.98, 0), 0.024), plain(steel), 0.7),
            Part(sphere(vec(0, 1.03, 0), 0.078), plain(coral), 0.6),
            Part(cylinder(vec(0, 0.18, 0), 1, 0.15, 0.08, 0.02), plain(steel), 0.6),
            Part(box(vec(0, -0.2, 0), vec(0.38, 0.34, 0.29), 0.16), plain(teal), 0.4),
            Part(box(vec(0, -0.17, 0.265), vec(0.23, 0.17, 0.05), 0.045), plain(cream), 0.3),
            Part(sphere(vec(-0.1, -0.13, 0.305), 0.05), plain(coral), 0.6),
            Part(sphere(vec(0.03, -0.13, 0.305), 0.05), plain("#f6c445"), 0.6),
            Part(capsule(vec(-0.12, -0.25, 0.31), vec(0.12, -0.25, 0.31), 0.022), plain(teal), 0.4),
            Part(mirrored(sphere(vec(0.43, -0.02, 0), 0.13)), plain(teal), 0.4),
            Part(
                mirrored(capsule(vec(0.47, -0.06, 0), vec(0.6, -0.3, 0.08), 0.075)),
                plain(steel),
                0.6,
            ),
            Part(mirrored(sphere(vec(0.625, -0.38, 0.11), 0.125)), plain(coral), 0.4),
            Part(
                mirrored(capsule(vec(0.18, -0.5, 0), vec(0.19, -0.78, 0.02), 0.09)),
                plain(steel),
                0.6,
            ),
            Part(
                mirrored(box(vec(0.205, -0.89, 0.08), vec(0.165, 0.11, 0.24), 0.1)),
                plain(teal),
                0.4,
            ),
        ),
        background="transparent",
        azimuth=24,
        elevation=9,
        reach=1.3,
    )


def mug() -> Scene:
    outer = cylinder(vec(0, 0, 0), 1, 0.62, 0.72, 0.1)
    hollow = cylinder(vec(0, 0.25, 0), 1, 0.53, 0.8, 0.1)
    handle = torus(vec(0.66, 0.0, 0), 2, 0.38, 0.1)
    body = blend(outer, handle, 0.1)
    cup = subtract(body, hollow)

    def glaze(p: Points) -> np.ndarray:
        """Coral, a cream band, and a row of sun-yellow dots on it."""
        coral, cream, dot = srgb("#e2583e"), srgb("#f6e6c8"), srgb("#f0a92e")
        azimuth = np.arctan2(p[:, 0], p[:, 2])
        radius = np.hypot(p[:, 0], p[:, 2])
        on_wall = (radius < 0.66) & (radius > 0.56)
        band = on_wall & (np.abs(p[:, 1] - 0.02) < 0.24)
        pitch = 2.0 * np.pi / 14
        offset = (azimuth + pitch / 2) % pitch - pitch / 2
        dots = band & (np.hypot(offset * 0.62, p[:, 1] - 0.02) < 0.085)
        colour = np.where(band[:, None], cream, coral)
        colour = np.where(dots[:, None], dot, colour)
        inside = (radius < 0.56) & (p[:, 1] > -0.6)
        return np.where(inside[:, None], cream, colour)

    cocoa = cylinder(vec(0, 0.5, 0), 1, 0.56, 0.04, 0.01)
    saucer = subtract(
        cylinder(vec(0, -0.76, 0), 1, 1.0, 0.06, 0.05),
        ellipsoid(vec(0, -0.6, 0), vec(0.86, 0.13, 0.86)),
    )
    return Scene(
        parts=(
            Part(cup, glaze, 0.8),
            Part(cocoa, plain("#5b3320"), 0.5),
            Part(saucer, plain("#3f8f94"), 0.7),
        ),
        background="studio",
        azimuth=-20,
        elevation=20,
        reach=1.35,
        floor=-0.82,
    )


def mushroom() -> Scene:
    spots = [(10, 32), (62, 22), (-45, 20), (-18, 62), (35, 66), (105, 35), (-100, 30), (0, 2)]
    spots += [(-75, 48), (80, 60), (20, 8), (-25, 6), (55, -1), (-62, -2), (150, 40), (-150, 40)]
    sizes = [0.17, 0.14, 0.16, 0.13, 0.14, 0.15, 0.14, 0.09]
    sizes += [0.1, 0.1, 0.09, 0.1, 0.1, 0.09, 0.14, 0.14]
    cap_centre, cap_radii = vec(0, 0.16, 0), vec(0.86, 0.66, 0.86)

    def on_cap(azimuth: float, elevation: float) -> np.ndarray:
        a, e = np.deg2rad(azimuth), np.deg2rad(elevation)
        return vec(np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a))

    def cap_paint(p: Points) -> np.ndarray:
        direction = (p - cap_centre) / cap_radii
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        white = np.zeros(len(p), bool)
        for (azimuth, elevation), size in zip(spots, sizes, strict=True):
            white |= np.linalg.norm(direction - on_cap(azimuth, elevation), axis=1) < size
        colour = np.where(white[:, None], srgb("#f4e3c6"), srgb("#d8322c"))
        under = p[:, 1] < cap_centre[1] - 0.02
        gills = 0.85 + 0.15 * np.cos(40 * np.arctan2(p[:, 0], p[:, 2]))
        return np.where(under[:, None], srgb("#f1d9b0") * gills[:, None], colour)

    def planks(p: Points) -> np.ndarray:
        groove = np.abs((p[:, 0] / 0.085) % 1.0 - 0.5) > 0.44
        return np.where(groove[:, None], srgb("#5a3419"), srgb("#a4652f"))

    def brick(p: Points) -> np.ndarray:
        row = np.floor(p[:, 1] / 0.07)
        around = (np.arctan2(p[:, 0] - 0.42, p[:, 2]) * 1.6 + 0.5 * (row % 2)) % 1.0
        mortar = (np.abs((p[:, 1] / 0.07) % 1.0 - 0.5) > 0.42) | (around < 0.1)
        return np.where(mortar[:, None], srgb("#d9c8b4"), srgb("#a85f4a"))

    cap = blend(
        intersect(ellipsoid(cap_centre, cap_radii), lambda p: cap_centre[1] - 0.06 - p[:, 1]),
        torus(vec(0, 0.13, 0), 1, 0.78, 0.075),
        0.08,
    )
    stem = capsule(vec(0, -0.66, 0), vec(0, 0.05, 0), 0.48, 0.4)
    arch = union(
        box(vec(0, -0.55, 0.44), vec(0.17, 0.26, 0.09), 0.02),
        cylinder(vec(0, -0.3, 0.44), 2, 0.17, 0.09, 0.02),
    )
    frame = union(
        box(vec(0, -0.55, 0.42), vec(0.215, 0.27, 0.085), 0.03),
        cylinder(vec(0, -0.3, 0.42), 2, 0.215, 0.085, 0.03),
    )
    pane = turned(cylinder(vec(0, -0.28, 0.44), 2, 0.11, 0.05, 0.01), 52)
    rim = turned(
        union(
            torus(vec(0, -0.28, 0.475), 2, 0.115, 0.03),
            capsule(vec(-0.1, -0.28, 0.49), vec(0.1, -0.28, 0.49), 0.016),
            capsule(vec(0, -0.38, 0.49), vec(0, -0.18, 0.49), 0.016),
        ),
        52,
    )
    mound = intersect(ellipsoid(vec(0, -0.98, 0), vec(0.98, 0.26, 0.98)), lambda p: -0.98 - p[:, 1])
    bushes = union(
        sphere(vec(-0.5, -0.76, 0.36), 0.15),
        sphere(vec(-0.62, -0.78, 0.2), 0.12),
        sphere(vec(-0.36, -0.8, 0.5), 0.1),
        sphere(vec(0.54, -0.77, 0.22), 0.13),
    )
    stones = union(
        ellipsoid(vec(0.0, -0.79, 0.62), vec(0.15, 0.05, 0.09)),
        ellipsoid(vec(0.05, -0.84, 0.8), vec(0.13, 0.05, 0.08)),
    )
    small_stem = capsule(vec(0.62, -0.85, 0.45), vec(0.64, -0.62, 0.47), 0.085, 0.065)
    small_cap = intersect(
        ellipsoid(vec(0.645, -0.6, 0.47), vec(0.2, 0.17, 0.2)), lambda p: -0.63 - p[:, 1]
    )
    return Scene(
        parts=(
            Part(stem, plain("#f3e2c3"), 0.15),
            Part(cap, cap_paint, 0.55),
            Part(frame, plain("#8a8f94"), 0.15),
            Part(arch, planks, 0.2),
            Part(sphere(vec(0.1, -0.5, 0.545), 0.03), plain("#f1b93b"), 0.9),
            Part(pane, plain("#ffd978"), 0.6, 0.5),
            Part(rim, plain("#7b4a24"), 0.2),
            Part(cylinder(vec(0.42, 0.72, 0), 1, 0.105, 0.2, 0.015), brick, 0.1),
            Part(cylinder(vec(0.42, 0.92, 0), 1, 0.14, 0.04, 0.02), plain("#7d6a60"), 0.1),
            Part(mound, plain("#6fae45"), 0.1),
            Part(bushes, plain("#4d9440"), 0.15),
            Part(stones, plain("#b9b4ab"), 0.15),
            Part(small_stem, plain("#f3e2c3"), 0.15),
            Part(small_cap, plain("#e98a2b"), 0.5),
        ),
        background="white",
        azimuth=18,
        elevation=13,
        reach=1.4,
    )


SCENES: dict[str, Callable[[], Scene]] = {"robot": robot, "mug": mug, "mushroom": mushroom}


# --- rendering ------------------------------------------------------------------------------------


KEY_LIGHT, FILL_LIGHT = vec(-0.55, 0.72, 0.62), vec(0.8, 0.15, 0.5)


def towards(axes: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """A direction given in the camera's axes as a unit vector of the scene."""
    return axes.T @ (direction / np.linalg.norm(direction))


def march(scene: Scene, origin: np.ndarray, ray: np.ndarray, steps: int = 96) -> np.ndarray:
    """Distance along each ray to the surface, infinity where it misses. (N, 3), (N, 3) -> (N,)."""
    closest = -np.einsum("ij,ij->i", origin, ray)
    aside = np.linalg.norm(origin + closest[:, None] * ray, axis=1)
    half_chord = np.sqrt(np.maximum(scene.reach**2 - aside**2, 0.0))
    travelled = np.maximum(closest - half_chord, 0.0).astype(np.float32)
    limit = closest + half_chord
    result = np.full(len(ray), np.inf, np.float32)
    active = np.flatnonzero(aside < scene.reach)
    for _ in range(steps):
        if not len(active):
            break
        gap = scene.distance(origin[active] + travelled[active, None] * ray[active])
        travelled[active] += 0.9 * gap
        hit = gap < 1e-3
        result[active[hit]] = travelled[active[hit]]
        active = active[~hit & (travelled[active] < limit[active])]
    return result


def normals(scene: Scene, p: Points) -> np.ndarray:
    """Gradient of the distance, from four samples on a tetrahedron."""
    corners = np.array([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], np.float32)
    total = sum(corner * scene.distance(p + 1.5e-3 * corner)[:, None] for corner in corners)
    gradient = np.asarray(total, np.float32)
    return gradient / np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-9)


def soft_shadow(scene: Scene, p: Points, light: np.ndarray, hardness: float) -> np.ndarray:
    """Share of a round light that is seen from `p`: the closest miss, seen as an angle."""
    seen = np.ones(len(p), np.float32)
    travelled = np.full(len(p), 0.03, np.float32)
    active = np.arange(len(p))
    for _ in range(40):
        if not len(active):
            break
        gap = scene.distance(p[active] + travelled[active, None] * light)
        seen[active] = np.minimum(seen[active], 0.5 + 0.5 * hardness * gap / travelled[active])
        travelled[active] += np.clip(np.abs(gap), 0.02, 0.25)
        active = active[(seen[active] > 0.0) & (travelled[active] < 2.6)]
    seen = np.clip(seen, 0.0, 1.0)
    smooth: np.ndarray = seen * seen * (3.0 - 2.0 * seen)
    return smooth


def ambient(scene: Scene, p: Points, normal: np.ndarray) -> np.ndarray:
    """Openness in [0.25, 1]: how much nearer the surfaces around are than free space would be."""
    closed = np.zeros(len(p), np.float32)
    for reach, weight in ((0.03, 0.9), (0.08, 0.6), (0.18, 0.4), (0.35, 0.25)):
        closed += weight * (reach - scene.distance(p + reach * normal)) / reach * 0.55
    return np.clip(1.0 - closed, 0.25, 1.0)


def shoulder(colour: np.ndarray) -> np.ndarray:
    """Compress highlights to at most 0.95, so that nothing on an object is as white as paper."""
    return np.where(colour < 0.7, colour, 0.7 + 0.25 * np.tanh((colour - 0.7) / 0.25))


def shade(scene: Scene, p: Points, ray: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Linear colour (N, 3) of surface points. The lights hang on the camera's `axes`."""
    key, fill = towards(axes, KEY_LIGHT), towards(axes, FILL_LIGHT)
    normal = normals(scene, p)
    part = scene.nearest_part(p)
    albedo = np.empty_like(p)
    for index, item in enumerate(scene.parts):
        mine = part == index
        if mine.any():
            albedo[mine] = item.paint(p[mine])
    gloss = np.array([item.gloss for item in scene.parts], np.float32)[part]
    glow = np.array([item.glow for item in scene.parts], np.float32)[part]

    openness = ambient(scene, p, normal)
    lit = np.maximum(normal @ key, 0.0)
    facing = lit > 0.0
    shadow = np.zeros(len(p), np.float32)
    shadow[facing] = soft_shadow(scene, p[facing] + 4e-3 * normal[facing], key, 5.0)
    sky = vec(0.94, 0.98, 1.06) * (0.36 + 0.16 * normal[:, 1:2]) * openness[:, None]
    sun = vec(1.05, 1.0, 0.93) * (0.78 * lit * shadow)[:, None]
    side = vec(0.95, 0.98, 1.0) * (0.2 * np.maximum(normal @ fill, 0.0) * openness)[:, None]
    colour = albedo * (sky + sun + side + glow[:, None])

    halfway = key - ray
    halfway /= np.linalg.norm(halfway, axis=1, keepdims=True)
    highlight = np.maximum(np.einsum("ij,ij->i", normal, halfway), 0.0) ** (12 + 140 * gloss)
    grazing = (1.0 - np.clip(-np.einsum("ij,ij->i", normal, ray), 0.0, 1.0)) ** 4
    sheen = gloss * (0.55 * highlight * shadow + 0.16 * grazing * openness)
    return shoulder(colour + sheen[:, None])


def floor_shade(scene: Scene, origin: np.ndarray, ray: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """How much light the floor keeps beside the object, (N,) in (0, 1]."""
    key = towards(axes, KEY_LIGHT)
    kept = np.ones(len(ray), np.float32)
    down = ray[:, 1] < -1e-3
    travelled = (scene.floor - origin[down, 1]) / ray[down, 1]
    p = origin[down] + travelled[:, None] * ray[down]
    near = np.linalg.norm(p, axis=1) < 3.0 * scene.reach
    index = np.flatnonzero(down)[near]
    p = p[near]
    up = np.broadcast_to(vec(0, 1, 0), p.shape)
    light = soft_shadow(scene, p + vec(0, 4e-3, 0), key, 2.2)
    kept[index] = (0.62 + 0.38 * light) * (0.55 + 0.45 * ambient(scene, p, up))
    return kept


def studio(y: np.ndarray) -> np.ndarray:
    """Backdrop (N, 3), linear: y in [0, 1] from the top of the picture to its bottom."""
    top, bottom = srgb("#dfe4ea"), srgb("#f4f2ee")
    return top + (bottom - top) * y[:, None] ** 1.3


def render(scene: Scene, size: int, supersampling: int = SUPERSAMPLING) -> Image.Image:
    """The scene as a picture of `size` x `size`, RGBA when its background is transparent."""
    azimuth, elevation = np.deg2rad(scene.azimuth), np.deg2rad(scene.elevation)
    back = vec(
        np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)
    )
    right = vec(np.cos(azimuth), 0, -np.sin(azimuth))
    axes = np.stack([right, np.cross(back, right), back]).astype(np.float32)
    fine = size * supersampling
    grid = (np.arange(fine, dtype=np.float32) + 0.5) / fine
    tan_half = np.float32(scene.reach / CAMERA)
    rows = []
    band = max(1, 60_000 // fine)
    for start in range(0, fine, band):
        v, u = np.meshgrid(grid[start : start + band], grid, indexing="ij")
        u, v = u.ravel(), v.ravel()
        local = np.stack([(2 * u - 1) * tan_half, (1 - 2 * v) * tan_half, -np.ones_like(u)], axis=1)
        ray = (local / np.linalg.norm(local, axis=1, keepdims=True)) @ axes
        origin = np.broadcast_to(CAMERA * back, ray.shape)
        travelled = march(scene, origin, ray)
        hit = np.isfinite(travelled)
        colour = np.ones((len(ray), 4), np.float32)
        colour[:, 3] = hit
        if scene.background == "studio":
            miss = ~hit
            kept = floor_shade(scene, origin[miss], ray[miss], axes)
            colour[miss, :3] = studio(v[miss]) * kept[:, None]
        p = origin[hit] + travelled[hit, None] * ray[hit]
        colour[hit, :3] = shade(scene, p, ray[hit], axes)
        rows.append(colour.reshape(-1, fine, 4))
    return develop(np.concatenate(rows), supersampling, scene.background == "transparent")


def develop(linear: np.ndarray, supersampling: int, transparent: bool) -> Image.Image:
    """Linear samples -> sRGB picture. Averages display values, as image editors composite them."""
    rgb = np.clip(linear[..., :3], 0.0, 1.0)
    display = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    cover = linear[..., 3:]
    size = len(linear) // supersampling
    blocks = (size, supersampling, size, supersampling, -1)
    if not transparent:
        flat = display.reshape(blocks).mean(axis=(1, 3))
        return Image.fromarray(np.rint(flat * 255).astype(np.uint8))
    alpha = cover.reshape(blocks).mean(axis=(1, 3))
    straight = (display * cover).reshape(blocks).mean(axis=(1, 3)) / np.maximum(alpha, 1e-6)
    both = np.concatenate([np.clip(straight, 0.0, 1.0), alpha], axis=-1)
    return Image.fromarray(np.rint(both * 255).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the example pictures.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SCENES)}")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--size", type=int, default=768)
    options = parser.parse_args()
    for name in options.names or SCENES:
        if name not in SCENES:
            parser.error(f"unknown picture {name}; known: {', '.join(SCENES)}")
        path = options.out / f"{name}.png"
        render(SCENES[name](), options.size).save(path, optimize=True)
        print(path)


if __name__ == "__main__":
    main()
