"""How sharp is a texture, beside vertex colours, and what does it cost?

    python -m bench.geometry.texture [--only NAME ...] [--size 2048] [--faces 100000 30000 10000]
        [--pictures DIR]

Shapes of bench/geometry/shapes.py are painted with a pattern that knows no faces, and shown to the
bundle's four cameras. The isomer stage colours the true surface, cut into 100,000 faces, from that
bundle; a texture is made for it at several numbers of faces. PSNR in dB of unlit pictures, over the
pixels that either picture covers: from the four cameras, and from eight others. Seconds are those
of reducing and unwrapping, of baking, and of the PNG file.

With the package xatlas installed (not needed for anything), the same texture is baked over its
layout as well.

--pictures writes each shape from one of the other cameras: the truth, vertex colours, textures.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image

from bench.geometry.shapes import FLAT, SHAPES
from orchestrator.system.text import format_table
from stages.contract import Mesh
from stages.evaluation.views import psnr
from stages.geometry.cameras import Camera, bundle_cameras
from stages.geometry.masks import foreground
from stages.geometry.raster import Fragments, Rasterizer, interpolate, open_rasterizer
from stages.geometry.raster.cpu import CpuRasterizer
from stages.geometry.render import coverage, look, normal_tile, resolve, vertex_normals
from stages.isomer.cleaning import clean
from stages.isomer.coloring import Coloring, color_vertices, color_views
from stages.isomer.params import IsomerParams
from stages.isomer.projection import View, sample
from stages.isomer.texture import make
from stages.isomer.texture.unwrap import Unwrapped, unwrap

NAMES = ("teapot", "animal", "house", "torus_knot")
SIZE, SAMPLES = 512, 3
FINE = 100_000
SAND, NAVY = np.array((0.85, 0.7, 0.5)), np.array((0.1, 0.15, 0.35))
RED, WHITE = np.array((0.8, 0.2, 0.15)), np.array((0.95, 0.95, 0.9))
OTHERS = tuple(Camera(22.5 + 45.0 * k, 30.0 if k % 2 else -10.0) for k in range(8))
HEADER = (
    "shape", "colours", "faces", "4 views", "8 others", "charts", "covered", "unwrap s", "bake s",
    "PNG s",
)  # fmt: skip

Shade = Callable[[Fragments], np.ndarray]
"""What is drawn where: fragments (H, W) -> (H, W, 3) float32."""


def paint(points: np.ndarray) -> np.ndarray:
    """(..., 3) in [0, 1] at points of frame W: checks of side 0.2, in every second one thin lines,
    in the others a dot."""
    cell = np.floor(points / 0.2).astype(int).sum(axis=-1) % 2
    local = np.mod(points, 0.2) / 0.2 - 0.5
    dots = (local**2).sum(axis=-1) < 0.09
    lines = np.mod(points.sum(axis=-1), 0.05) < 0.02
    odd = np.where(lines[..., None], NAVY, SAND)
    even = np.where(dots[..., None], RED, WHITE)
    return np.where(cell[..., None] == 1, odd, even)


def pictures(
    mesh: Mesh, shade: Shade, cameras: Sequence[Camera], rasterizer: Rasterizer
) -> tuple[np.ndarray, np.ndarray]:
    """(K, S, S, 3) pictures on white and (K, S, S) bool, where the mesh covers half a pixel."""
    images, masks = [], []
    for camera in cameras:
        seen = look(mesh.vertices, mesh.faces, camera, SIZE, SAMPLES, rasterizer)
        images.append(resolve(shade(seen).astype(np.float32), seen, SAMPLES))
        masks.append(coverage(seen, SAMPLES) > 0.5)
    return np.stack(images), np.stack(masks)


@dataclass(frozen=True)
class Painted:
    """A shape's fine mesh, coloured by the stage, and what there is to be seen.

    truths   pictures and masks from the four cameras and from the others
    """

    fine: Mesh
    normals: np.ndarray
    coloring: Coloring
    views: list[View]
    truths: tuple[tuple[np.ndarray, np.ndarray], ...]


def painted(name: str, params: IsomerParams, rasterizer: Rasterizer) -> Painted:
    truth = (SHAPES | FLAT)[name]()

    def pattern(seen: Fragments) -> np.ndarray:
        return paint(interpolate(seen, truth.faces, truth.vertices))

    truths = tuple(pictures(truth, pattern, c, rasterizer) for c in (bundle_cameras(), OTHERS))
    smooth = vertex_normals(truth.vertices, truth.faces)
    tiles = []
    for camera in bundle_cameras():
        seen = look(truth.vertices, truth.faces, camera, SIZE, SAMPLES, rasterizer)
        tiles.append(normal_tile(seen, truth.faces, smooth, camera, SAMPLES))
    mask = foreground(np.stack(tiles), params.background_tolerance, 64)
    views = color_views(truths[0][0], mask, params)
    vertices, faces = clean(truth.vertices, truth.faces, 0, 8, 0.0, FINE, keep_shape=True)
    normals = vertex_normals(vertices, faces)
    coloring = color_vertices(vertices, faces, normals, views, rasterizer, params)
    fine = Mesh(vertices, faces, coloring.colors)
    return Painted(fine, normals, coloring, views, truths)


def texture_shade(mesh: make.Textured) -> Shade:
    """Bilinear look-ups in its texture."""
    texture = mesh.colors / 255.0

    def shade(seen: Fragments) -> np.ndarray:
        at = interpolate(seen, mesh.faces, mesh.uv) * len(texture)
        return sample(texture, at.reshape(-1, 2)).reshape(*at.shape[:2], 3)

    return shade


def score(
    mesh: Mesh, shade: Shade, case: Painted, rasterizer: Rasterizer
) -> tuple[list[str], np.ndarray]:
    """Both PSNRs, and the picture from the first of the other cameras."""
    found = []
    for cameras, (truth, covered) in zip((bundle_cameras(), OTHERS), case.truths, strict=True):
        images, masks = pictures(mesh, shade, cameras, rasterizer)
        found.append(f"{psnr(images, truth, masks | covered):.2f}")
    return found, images[0]


def textured(
    case: Painted, params: IsomerParams, threads: int, layout: Callable[..., Unwrapped]
) -> tuple[make.Textured, list[float]]:
    """The textured mesh, and seconds of unwrapping with reduction, of baking, and of the file."""
    marks: dict[str, float] = {}

    def timed(part: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                marks[part] = marks.get(part, 0.0) + time.perf_counter() - began

        return call

    with (
        mock.patch.object(make, "_reduced", timed("unwrap", make._reduced)),
        mock.patch.object(make, "unwrap", timed("unwrap", layout)),
        mock.patch.object(make, "bake_colors", timed("bake", make.bake_colors)),
        mock.patch.object(make, "png", timed("png", make.png)),
    ):
        fine = case.fine
        flat = make.lay_flat(fine.vertices, fine.faces, case.normals, params, threads)
        made = make.make_textured(
            fine, case.normals, flat, case.coloring, case.views, params, threads
        )
    return made, [marks["unwrap"], marks["bake"], marks["png"]]


def by_xatlas(
    vertices: np.ndarray, faces: np.ndarray, size: int, rasterizer: CpuRasterizer
) -> Unwrapped:
    """The package's layout, in place of `unwrap`."""
    import xatlas

    atlas = xatlas.Atlas()
    atlas.add_mesh(vertices, faces.astype(np.uint32))
    packing = xatlas.PackOptions()
    packing.resolution, packing.padding = size, 8
    atlas.generate(xatlas.ChartOptions(), packing)
    origin, cut, uv = atlas[0]
    x, y = 2.0 * uv[:, 0].astype(np.float64) - 1.0, 1.0 - 2.0 * uv[:, 1].astype(np.float64)
    clip = np.stack([x, y, np.zeros_like(x), np.ones_like(x)], axis=1)
    fragments = rasterizer.rasterize(clip, cut.astype(np.int32), (size, size))
    nowhere = np.zeros((len(uv), 3))
    return Unwrapped(
        origin.astype(np.int64), cut.astype(np.int32), uv.astype(np.float32), nowhere, nowhere,
        fragments, int(atlas.chart_count), float("nan"),
    )  # fmt: skip


def measure(
    name: str, size: int, counts: Sequence[int], threads: int
) -> tuple[list[tuple[str, ...]], np.ndarray]:
    """Rows of the table, and pictures side by side: truth, vertex colours, textures."""
    rasterizer = open_rasterizer("cpu", threads=threads)
    params = IsomerParams(texture_size=size)  # type: ignore[arg-type]
    case = painted(name, params, rasterizer)
    colors = case.coloring.colors / 255.0
    scores, picture = score(
        case.fine, lambda seen: interpolate(seen, case.fine.faces, colors), case, rasterizer
    )
    rows = [(name, "vertices", f"{len(case.fine.faces):,}", *scores, *[""] * 5)]
    shown = [case.truths[1][0][0], picture]
    layouts = [("texture", unwrap, count) for count in counts]
    if importlib.util.find_spec("xatlas"):
        layouts += [("xatlas", by_xatlas, count) for count in counts]
    for label, layout, count in layouts:
        asked = params.model_copy(update={"texture_faces": count})
        made, seconds = textured(case, asked, threads, layout)
        mesh = Mesh(made.vertices, made.faces)
        scores, picture = score(mesh, texture_shade(made), case, rasterizer)
        cover = f"{made.cut.fragments.covered.mean():.0%}"
        rows.append(
            ("", label, f"{len(made.faces):,}", *scores, str(made.cut.charts), cover,
             *(f"{s:.2f}" for s in seconds))
        )  # fmt: skip
        shown.append(picture)
    return rows, np.concatenate(shown, axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=tuple(FLAT | SHAPES), default=NAMES)
    parser.add_argument("--size", type=int, choices=(1024, 2048, 4096), default=2048)
    parser.add_argument("--faces", type=int, nargs="+", default=[100_000, 30_000, 10_000])
    parser.add_argument("--pictures", type=Path)
    arguments = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    measure("box", 1024, [1000], threads)  # compiles kernels
    table = []
    for name in arguments.only:
        rows, shown = measure(name, arguments.size, arguments.faces, threads)
        table += rows
        print(format_table(HEADER, rows), file=sys.stderr, flush=True)
        if arguments.pictures:
            arguments.pictures.mkdir(parents=True, exist_ok=True)
            Image.fromarray((shown * 255.0 + 0.5).astype(np.uint8)).save(
                arguments.pictures / f"{name}.png"
            )
    load = os.getloadavg()[0]
    print(f"{SIZE} x {SIZE} tiles, texture {arguments.size}, {threads} threads, load {load:.1f}")
    print(format_table(HEADER, table))


if __name__ == "__main__":
    main()
