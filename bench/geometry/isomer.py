"""Where does the time of isomer go? The whole stage with its default steps, split by part.

    python -m bench.geometry.isomer [--shape teapot] [--device cpu cuda:0] [--param KEY=VALUE ...]

A shape of bench/geometry/shapes.py is given by its perfect bundle of 512 x 512 tiles and the hull
of its four silhouettes, and must end at 50,000 faces or more. Parts are timed without what they
call in other parts; on a card after all work on it has ended. What else the machine does slows all
of it down, so the load average and the seconds of CPU time that the process took are printed
beside.

start       a mesh fused from the normal maps, where the hull is far off
render      rasterising, interpolation, antialiasing, losses
backward    gradients
remesh      optimiser step, collapse, split, flip
projection  the normals that all views together ask for
cleaning    reduction, subdivision
colour      visibility, projection and completion of colours; beside it the mesh is laid flat
texture     the rest of that, texels, PNG; previews are drawn beside it
files       GLB, OBJ, PLY, and the rest of the previews
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch

from bench.geometry.cases import SIZE, shape_case, start_mesh
from bench.geometry.scores import parse_params
from bench.geometry.shapes import SHAPES
from orchestrator.system.text import format_table
from stages.contract import Context
from stages.geometry import camera_rig
from stages.geometry.diffrender.views import Views
from stages.isomer import cleaning, coloring, export
from stages.isomer import stage as whole
from stages.isomer.params import IsomerParams
from stages.isomer.refine import loop, refine
from stages.isomer.refine.optimizer import MeshOptimizer
from stages.isomer.refine.targets import Evidence
from stages.isomer.stage import Isomer

LEAST_FACES = 50_000
PARTS: dict[str, tuple[tuple[Any, str], ...]] = {
    "start": ((refine, "choose_start"),),
    "render": (
        (Views, "look"), (loop, "render_vectors"), (loop, "outline_loss"),
        (loop, "coverage_loss"), (loop, "picture_loss"), (loop, "vertex_normals"),
    ),
    "backward": ((torch.autograd, "grad"),),
    "remesh": ((MeshOptimizer, "step"), (MeshOptimizer, "remesh")),
    "projection": ((Evidence, "normals"),),
    "cleaning": ((cleaning, "clean"),),
    "colour": ((coloring, "color_views"), (coloring, "color_vertices")),
    "texture": ((whole, "_textured"),),
    "files": (
        (export, "textured_glb"), (export, "textured_obj"), (export, "ply"),
    ),
}  # fmt: skip


class Stopwatch:
    """Seconds spent in each part, without those of parts called from it."""

    def __init__(self, device: str) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._device = device
        self._inner = [0.0]

    def now(self) -> float:
        if self._device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            self._inner.append(0.0)
            began = self.now()
            try:
                return function(*arguments, **named)
            finally:
                elapsed = self.now() - began
                self.seconds[part] += elapsed - self._inner.pop()
                self._inner[-1] += elapsed

        return call

    @contextmanager
    def watching(self) -> Iterator[None]:
        with ExitStack() as patches:
            for part, places in PARTS.items():
                for owner, name in places:
                    wrapped = self.timed(part, getattr(owner, name))
                    patches.enter_context(mock.patch.object(owner, name, wrapped))
            yield


def measure(shape: str, device: str, params: dict[str, Any]) -> tuple[dict[str, float], int]:
    """Seconds by part, then "rest", "all" and "CPU"; and the final number of faces."""
    case = shape_case(shape)
    inputs = {"bundle": case.bundle, "coarse_mesh": start_mesh(case, "carved")}
    context = Context(device=device, threads=len(os.sched_getaffinity(0)))
    stage = Isomer(IsomerParams(**params))
    stage.load(context)
    warm = Isomer(IsomerParams(**{**params, "stage2_steps": 1}))
    warm.load(context)
    warm.run(inputs, context)  # compiles kernels, fills caches
    watch = Stopwatch(device)
    with watch.watching():
        began, busy = watch.now(), time.process_time()
        mesh = stage.run(inputs, context)["mesh"]
        spent, busy = watch.now() - began, time.process_time() - busy
    seconds = {part: watch.seconds[part] for part in PARTS}
    seconds["rest"] = spent - sum(seconds.values())
    seconds |= {"all": spent, "CPU": busy}
    return seconds, len(mesh.faces)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=tuple(SHAPES), default="teapot")
    parser.add_argument("--device", nargs="+", default=None)
    parser.add_argument("--param", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    found = ["cuda:0"] if torch.cuda.is_available() else []
    rows = []
    for device in arguments.device or ["cpu", *found]:
        before = os.getloadavg()[0]
        seconds, faces = measure(arguments.shape, device, parse_params(arguments.param))
        if faces < LEAST_FACES:
            print(f"{device}: only {faces} faces in the end", file=sys.stderr)
        load = f"{before:.1f} to {os.getloadavg()[0]:.1f}"
        rows.append((device, *(f"{s:.1f}" for s in seconds.values()), f"{faces:,}", load))
    print(f"{arguments.shape}, {SIZE} x {SIZE}, distance {camera_rig.RADIUS}, seconds")
    print(format_table(("device", *PARTS, "rest", "all", "CPU", "faces", "load"), rows))


if __name__ == "__main__":
    main()
