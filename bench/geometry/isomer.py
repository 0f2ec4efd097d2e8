"""Where does the time of isomer go? The whole stage with its default steps, split by phase.

    python -m bench.geometry.isomer [--shape teapot] [--start carved] [--device cpu cuda:0]
        [--param KEY=VALUE ...]

A shape of bench/geometry/shapes.py is given by its perfect bundle of 512 x 512 tiles and a mesh to
start from, the hull of its four silhouettes if nothing else is said, and must end at 50,000 faces
or more. Phases are timed without what they call in other phases; on a card after all work on it has
ended. What else the machine does slows all of it down, so the load average and the seconds of CPU
time that the process took are printed beside. What runs beside another phase (reduction, layout,
previews) is in brackets: it adds nothing to the whole but what others wait for it.

imports     of what the stage preloads, in a process of its own
bundle      tiles, outlines, silhouettes and targets
start       how far the mesh is off; a mesh fused from the normal maps, where it is far off
rasterise   which face each pixel shows
forward     normals, interpolation, antialiasing, losses, outline, what is asked to move
backward    gradients
step        of the optimiser
remesh      collapse, split, flip
projection  the normals that all views together ask for
verdict     whether the result is better than the start
cleaning    reduction, subdivision
(silhouette) whether much of the front view is missing
colours     views, visibility, projection and completion of colours
(layout)    reduction to the textured mesh, charts, packing
bake        texels
png         the texture's file
waiting     for the layout
(pictures)  previews
files       GLB, OBJ, PLY
"""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch

from bench.geometry.cases import SIZE, shape_case, start_mesh
from bench.geometry.scores import parse_params
from bench.geometry.shapes import FLAT, SHAPES
from orchestrator.system.text import format_table
from stages.contract import Context
from stages.geometry import camera_rig
from stages.geometry.diffrender.views import Views
from stages.isomer import check, cleaning, coloring, export, pictures, tiles
from stages.isomer import stage as whole
from stages.isomer.params import IsomerParams
from stages.isomer.refine import loop, refine
from stages.isomer.refine.optimizer import MeshOptimizer
from stages.isomer.refine.targets import Evidence
from stages.isomer.stage import Isomer
from stages.isomer.texture import make

LEAST_FACES = 50_000
PHASES: dict[str, tuple[tuple[Any, str], ...]] = {
    "bundle": ((tiles, "tiles_of"), (tiles, "outline"), (refine, "make_targets")),
    "start": ((refine, "choose_start"),),
    "rasterise": ((Views, "look"),),
    "forward": (
        (loop, "vertex_normals"), (loop, "render_vectors"), (loop, "pictures_loss"),
        (loop, "picture_loss"), (loop, "outline_loss"), (loop, "asked"), (loop, "evidence"),
    ),
    "backward": ((torch.autograd, "grad"),),
    "step": ((MeshOptimizer, "step"), (loop, "hold"), (loop, "find_trouble")),
    "remesh": ((MeshOptimizer, "remesh"),),
    "projection": ((Evidence, "normals"),),
    "verdict": ((refine, "better"),),
    "cleaning": ((cleaning, "clean"),),
    "(silhouette)": ((check, "missing_share"),),
    "colours": ((coloring, "color_views"), (coloring, "color_vertices")),
    "(layout)": ((make, "lay_flat"),),
    "bake": ((make, "bake_colors"),),
    "png": ((make, "png"),),
    "waiting": ((whole, "_textured"),),
    "(pictures)": ((pictures, "look_around"), (pictures, "draw_textured")),
    "files": ((export, "textured_glb"), (export, "textured_obj"), (export, "ply")),
}  # fmt: skip
IMPORTS = """
import importlib, sys, time
began = time.perf_counter()
for name in sys.argv[1:]:
    importlib.import_module(name)
print(time.perf_counter() - began)
"""


class Stopwatch:
    """Seconds spent in each phase, without those of phases called from it in the same thread."""

    def __init__(self, device: str) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._device = device
        self._threads = threading.local()

    def now(self) -> float:
        if self._device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*arguments: Any, **named: Any) -> Any:
            inner: list[float] = self._threads.__dict__.setdefault("inner", [0.0])
            inner.append(0.0)
            began = self.now()
            try:
                return function(*arguments, **named)
            finally:
                elapsed = self.now() - began
                self.seconds[phase] += elapsed - inner.pop()
                inner[-1] += elapsed

        return call

    @contextmanager
    def watching(self) -> Iterator[None]:
        with ExitStack() as patches:
            for phase, places in PHASES.items():
                for owner, name in places:
                    wrapped = self.timed(phase, getattr(owner, name))
                    patches.enter_context(mock.patch.object(owner, name, wrapped))
            yield


def measure(
    shape: str, start: str, device: str, params: dict[str, Any]
) -> tuple[dict[str, float], int]:
    """Seconds by phase, then "rest", "all" and "CPU"; and the final number of faces."""
    case = shape_case(shape)
    inputs = {"bundle": case.bundle, "coarse_mesh": start_mesh(case, start)}
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
    seconds = {phase: watch.seconds[phase] for phase in PHASES}
    seconds["rest"] = spent - sum(s for phase, s in seconds.items() if phase[0] != "(")
    seconds |= {"all": spent, "CPU": busy}
    return seconds, len(mesh.faces)


def import_seconds() -> float:
    """Of a process that imports what the stage preloads."""
    names = Isomer.preloads(IsomerParams())
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *names], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=tuple(FLAT | SHAPES), default="teapot")
    parser.add_argument("--start", choices=("carved", "reconstruct", "blurred"), default="carved")
    parser.add_argument("--device", nargs="+", default=None)
    parser.add_argument("--param", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    found = ["cuda:0"] if torch.cuda.is_available() else []
    devices = arguments.device or ["cpu", *found]
    imports, columns = f"{import_seconds():.2f}", []
    for device in devices:
        before = os.getloadavg()[0]
        params = parse_params(arguments.param)
        seconds, faces = measure(arguments.shape, arguments.start, device, params)
        if faces < LEAST_FACES:
            print(f"{device}: only {faces} faces in the end", file=sys.stderr)
        load = f"{before:.1f} to {os.getloadavg()[0]:.1f}"
        columns.append((imports, *(f"{s:.2f}" for s in seconds.values()), f"{faces:,}", load))
    names = ("imports", *PHASES, "rest", "all", "CPU", "faces", "load")
    cores = len(os.sched_getaffinity(0))
    print(
        f"{arguments.shape} from {arguments.start}, {SIZE} x {SIZE}, distance {camera_rig.RADIUS}, "
        f"{cores} cores, seconds"
    )
    print(format_table(("phase", *devices), list(zip(names, *columns, strict=True))))


if __name__ == "__main__":
    main()
