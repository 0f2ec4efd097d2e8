"""Which face does each pixel show? Our CPU rasteriser beside pytorch3d's and Embree.

    python -m bench.geometry.rasterize [--quick] [--cuda]

A bumpy ball fills most of a square image. Ours is timed with 1 and with 2 threads; every other way
as it comes, in the same run. pytorch3d's CPU code takes time in proportion to faces x pixels and is
shown for small cases only; Embree (trimesh's `embreex`, if it is installed) shoots one ray a pixel,
its scene built beforehand.

With --cuda, the backends of a card instead: pytorch3d's and ours in plain torch, four views of
81,920 faces at 512 x 512, transfers included, with the card's memory and the share of pixels that
show the same face as on the CPU. `--cuda cpu` rehearses that without a card.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import trimesh

from orchestrator.system.text import format_table
from stages.contract import StageError
from stages.geometry.cameras import Camera
from stages.geometry.raster import Rasterizer, RasterizerName, open_rasterizer

FACES = (5_000, 20_000, 82_000, 330_000, 1_000_000)
SIZES = (256, 512, 1024)
CAMERA = Camera(30.0, 20.0)
PYTORCH3D_WORK = 5_200 * 256 * 256
"""faces x pixels up to which pytorch3d's CPU code is worth waiting for (about a second)."""

Draw = Callable[[], object]


def bumpy_ball(faces: int) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) float32, (F, 3) int32 of about `faces` faces; bumps hide one another at the rim."""
    rows = round((faces / 4.0) ** 0.5)
    polar, turn = np.linspace(0.0, np.pi, rows + 1), np.arange(2 * rows) * np.pi / rows
    t, a = np.meshgrid(polar, turn, indexing="ij")
    radius = 0.85 + 0.12 * np.sin(9.0 * t) * np.sin(8.0 * a) * np.sin(t)
    points = radius[..., None] * np.stack(
        [np.sin(t) * np.sin(a), np.cos(t), np.sin(t) * np.cos(a)], axis=-1
    )
    index = np.arange(t.size).reshape(t.shape)
    p, q = index[:-1], index[1:]
    r, s = np.roll(q, -1, axis=1), np.roll(p, -1, axis=1)
    triangles = [np.stack(corners, -1).reshape(-1, 3) for corners in ((p, q, r), (p, r, s))]
    return points.reshape(-1, 3).astype(np.float32), np.concatenate(triangles).astype(np.int32)


def least_ms(draw: Draw, repeats: int) -> float:
    """The least of several, after one to warm up: what others do on the machine only adds."""
    draw()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        draw()
        times.append(time.perf_counter() - began)
    return 1000.0 * min(times)


def pytorch3d_draw(clip: np.ndarray, faces: np.ndarray, size: int) -> Draw | None:
    try:
        rasterizer = open_rasterizer("pytorch3d", "cpu")
    except StageError:
        return None
    return lambda: rasterizer.rasterize(clip, faces, (size, size))


def embree_draw(vertices: np.ndarray, faces: np.ndarray, size: int) -> Draw | None:
    try:
        from trimesh.ray.ray_pyembree import RayMeshIntersector
    except ImportError:
        return None
    scene = RayMeshIntersector(trimesh.Trimesh(vertices, faces, process=False))
    rays = CAMERA.pixel_rays(size).reshape(-1, 3)
    origins = np.broadcast_to(CAMERA.center, rays.shape)
    return lambda: scene.intersects_first(origins, rays)


def case_row(vertices: np.ndarray, faces: np.ndarray, size: int, repeats: int) -> list[str]:
    clip = CAMERA.to_clip(vertices)
    ours = []
    for threads in (1, 2):
        rasterizer = open_rasterizer("cpu", threads=threads)
        ours.append(least_ms(lambda r=rasterizer: r.rasterize(clip, faces, (size, size)), repeats))
    row = [f"{len(faces):,}", str(size), *(f"{each:.1f}" for each in ours)]
    small = len(faces) * size * size <= PYTORCH3D_WORK
    for draw in (
        pytorch3d_draw(clip, faces, size) if small else None,
        embree_draw(vertices, faces, size),
    ):
        taken = least_ms(draw, min(repeats, 3)) if draw else None
        row += [f"{taken:.1f}", f"{taken / ours[1]:.1f}"] if taken else ["-", "-"]
    return row


def cuda_table(device: str, faces: int, size: int, repeats: int) -> str:
    """Four views with each backend of a card; memory is torch's peak beyond what it held."""
    import torch

    vertices, triangles = bumpy_ball(faces)
    clips = [Camera(azimuth, 5.0).to_clip(vertices) for azimuth in (0.0, 90.0, 180.0, 270.0)]
    on_cpu = open_rasterizer("cpu")
    expected = [on_cpu.rasterize(clip, triangles, (size, size)).pix_to_face for clip in clips]
    rows = []
    names: tuple[RasterizerName, ...] = ("pytorch3d", "torch")
    for name in names:
        try:
            rasterizer = open_rasterizer(name, device)
            found = [rasterizer.rasterize(clip, triangles, (size, size)) for clip in clips]
        except StageError as error:
            rows.append([name, str(error), "", ""])
            continue
        same = np.mean([f.pix_to_face == e for f, e in zip(found, expected, strict=True)])
        peak = "-"
        if device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
            held = torch.cuda.memory_allocated()

        def four_views(draw: Rasterizer = rasterizer) -> None:
            for clip in clips:
                draw.rasterize(clip, triangles, (size, size))

        taken = least_ms(four_views, repeats)
        if device.startswith("cuda"):
            peak = f"{(torch.cuda.max_memory_allocated() - held) / 2**20:.0f}"
        rows.append([name, f"{taken:.1f}", peak, f"{100.0 * same:.3f}"])
    who = torch.cuda.get_device_name() if device.startswith("cuda") else device
    header = (f"4 x {size}^2, {len(triangles):,} faces, {who}", "ms", "MiB", "% as the CPU")
    return format_table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="up to 82,000 faces and 512 pixels")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--cuda", nargs="?", const="cuda:0", metavar="DEVICE")
    arguments = parser.parse_args()
    if arguments.cuda:
        work = (2_000, 128) if arguments.quick else (81_920, 512)
        print(cuda_table(arguments.cuda, *work, arguments.repeats))
        return
    rows = []
    for count in FACES[:3] if arguments.quick else FACES:
        vertices, faces = bumpy_ball(count)
        for size in SIZES[:2] if arguments.quick else SIZES:
            rows.append(case_row(vertices, faces, size, arguments.repeats))
    header = (
        "faces", "pixels", "ours ms, 1 thread", "2 threads",
        "pytorch3d CPU ms", "x ours", "Embree ms", "x ours",
    )  # fmt: skip
    print(format_table(header, rows))


if __name__ == "__main__":
    main()
