"""The robot, the mug and the mushroom house."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from toys.scene import Part, Scene, plain, srgb
from toys.shapes import (
    Points,
    below,
    blend,
    box,
    capsule,
    cylinder,
    ellipsoid,
    intersect,
    mirrored,
    sphere,
    subtract,
    torus,
    turned,
    union,
    vec,
)


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
