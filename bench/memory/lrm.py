"""What the PRM model takes at its published size: peak VRAM and seconds of each of its steps.

    python -m bench.memory.lrm          on a GPU: float32 and both half types
    python -m bench.memory.lrm --tiny   a rehearsal with a tiny model, where there is no GPU too

Weights are random (devtools/tiny/prm.py), which changes neither memory nor time; their field is a
blob so that the surface crosses a usual number of cubes. The baseline decodes as the reference
does: the features of all grid vertices at once, then those of all corners of all cubes. Here it
does so once; the reference does it again for each of its four renders.

Peaks are what torch allocated, weights included. Half layers are compared with float32 on the same
input: the weights being random, that is the error of the arithmetic, not of a trained shape.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from devtools.tiny.prm import TINY, build_prm
from orchestrator.system.text import format_table
from stages.contract import Mesh
from stages.lrm.flexicubes.extract import extract
from stages.lrm.flexicubes.grid import cube_corners, vertex_count, vertex_positions
from stages.lrm.prm.cameras import condition_vectors, t_to_w
from stages.lrm.prm.config import PrmConfig
from stages.lrm.prm.decoder import Decoder, sample_planes
from stages.lrm.prm.field import GRID_SCALE, TriplaneField
from stages.lrm.prm.model import Prm, load_prm
from stages.lrm.prm.params import ModelParams
from stages.lrm.prm.reference import AZIMUTHS
from stages.lrm.prm.render import render_bundle_normals
from stages.lrm.prm.surface import IMAGE_SIZE

MIB = float(1 << 20)
TINY_RESOLUTION = 32


class Clock:
    """Seconds and peak MiB of steps, in order. Without a GPU all peaks are 0."""

    def __init__(self, device: str) -> None:
        self._on_gpu = device.startswith("cuda")
        self.rows: list[tuple[str, float, float]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        began = self._begin()
        yield
        self._end(name, began)

    def watch(self, module: torch.nn.Module, name: str) -> None:
        """Make every forward pass of a module a step."""
        began = [0.0]

        def before(*_: object) -> None:
            began[0] = self._begin()

        def after(*_: object) -> None:
            self._end(name, began[0])

        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)

    @property
    def seconds(self) -> float:
        return sum(row[1] for row in self.rows)

    @property
    def peak(self) -> float:
        return max(row[2] for row in self.rows)

    def table(self) -> str:
        rows = [*self.rows, ("together", self.seconds, self.peak)]
        text = [(name, f"{seconds:.3f}", f"{peak:.0f}") for name, seconds, peak in rows]
        return format_table(("step", "seconds", "peak MiB"), text)

    def _begin(self) -> float:
        if self._on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        return time.perf_counter()

    def _end(self, name: str, began: float) -> None:
        if self._on_gpu:
            torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() / MIB if self._on_gpu else 0.0
        self.rows.append((name, time.perf_counter() - began, peak))


@torch.no_grad()
def run(model: Prm, images: Tensor, params: ModelParams, clock: Clock) -> Tensor:
    """The reference node's work, step by step. Returns the planes."""
    device, resolution = images.device, params.resolution
    cameras = torch.from_numpy(condition_vectors())[None].to(device)
    planes = model.planes(images, cameras)
    field = TriplaneField(planes[0], model.decoder, params.chunk_points)
    with clock.step("decode the grid"):
        grid = field.grid_values(resolution)
    with clock.step("extract, weights of surface cubes"):
        vertices, faces = extract(
            grid.sdf,
            grid.deformation,
            lambda cubes: field.cube_weights(cubes, resolution),
            resolution,
            GRID_SCALE,
        )
    with clock.step("colours"):
        field.colors(vertices)
    mesh = Mesh(t_to_w(vertices.cpu().numpy()), faces.to(torch.int32).cpu().numpy())
    with clock.step("render four normal maps"):
        render_bundle_normals(mesh, AZIMUTHS, device=str(device))
    return planes


@torch.no_grad()
def decode_like_the_reference(planes: Tensor, decoder: Decoder, resolution: int) -> int:
    """Everything of the grid at once. Returns the number of faces."""
    vertices = torch.arange(vertex_count(resolution), device=planes.device)
    features = sample_planes(planes, vertex_positions(vertices, resolution, GRID_SCALE))
    sdf, deformation = decoder.sdf(features), decoder.deformation(features, resolution)
    corners = cube_corners(torch.arange(resolution**3, device=planes.device), resolution)
    weights = decoder.cube_weights(features[corners])
    _, faces = extract(sdf, deformation, lambda cubes: weights[cubes], resolution, GRID_SCALE)
    return len(faces)


class MeasuredRun:
    """What is kept of a run for comparison."""

    def __init__(self, clock: Clock, planes: Tensor, decoder: Decoder) -> None:
        self.clock, self.planes, self.decoder = clock, planes, decoder

    def compare_with_reference(self, resolution: int) -> None:
        """Time the baseline on the same planes, and print ratios."""
        print("\ndecoding as the reference does, float32, the planes given")
        baseline = Clock(str(self.planes.device))
        try:
            decode_like_the_reference(self.planes[0], self.decoder, resolution)
            with baseline.step("decode and extract"):
                decode_like_the_reference(self.planes[0], self.decoder, resolution)
        except torch.OutOfMemoryError as error:
            print(f"does not fit: {str(error).splitlines()[0]}")
            return
        print(baseline.table())
        ours = [row for row in self.clock.rows if row[0].startswith(("decode", "extract"))]
        seconds = sum(row[1] for row in ours) / baseline.seconds
        print(f"ours takes {seconds:.2f} x the time", end="")
        if baseline.peak:
            peak = max(row[2] for row in ours) / baseline.peak
            print(f" and {peak:.3f} x the memory, with encoder and transformer on the card", end="")
        print()


def measure(path: Path, dtype: torch.dtype, images: Tensor, params: ModelParams) -> MeasuredRun:
    """Load, warm up, and measure the second run."""
    device = str(images.device)
    began = time.perf_counter()
    model = load_prm(path, device, dtype)
    print(f"\n{dtype}: loaded in {time.perf_counter() - began:.2f} s")
    run(model, images, params, Clock(device))
    clock = Clock(device)
    clock.watch(model.encoder, "encoder")
    clock.watch(model.transformer, "transformer")
    planes = run(model, images, params, clock)
    print(clock.table())
    if images.is_cuda:
        free, total = torch.cuda.mem_get_info()
        reserved = torch.cuda.memory_reserved() / MIB
        used = (total - free) / MIB
        print(f"on the card: {used:.0f} MiB, of which torch reserved {reserved:.0f}")
    return MeasuredRun(clock, planes, model.decoder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="a tiny model, on a small grid")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--resolution", type=int, default=ModelParams().resolution)
    parser.add_argument("--chunk-points", type=int, default=ModelParams().chunk_points)
    arguments = parser.parse_args()
    on_gpu = arguments.device.startswith("cuda")
    resolution = TINY_RESOLUTION if arguments.tiny else arguments.resolution
    params = ModelParams(resolution=resolution, chunk_points=arguments.chunk_points)
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name() if on_gpu else 'CPU'}")
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((1, 4, 3, IMAGE_SIZE, IMAGE_SIZE), generator=generator)
    images = images.to(arguments.device)
    with tempfile.TemporaryDirectory() as folder:
        path = build_prm(Path(folder), TINY if arguments.tiny else PrmConfig())
        exact = measure(path, torch.float32, images, params)
        for dtype in (torch.bfloat16, torch.float16) if on_gpu else ():
            torch.cuda.empty_cache()
            planes = measure(path, dtype, images, params).planes
            error = float((planes - exact.planes).norm() / exact.planes.norm())
            print(f"its planes differ from float32's by {error:.2e} (relative L2)")
    exact.compare_with_reference(resolution)


if __name__ == "__main__":
    main()
