"""What the flux stage's placements and storage forms cost: seconds an evaluation, and peaks.

    python -m bench.networks.flux_step [--models FOLDER] [--ways resident,model,fp8,...] [--float8]
        [--tiny]

Writes FLUX.1-dev, ControlNet-Union and the VAE at full size with random bfloat16 weights (29 GiB on
disk, once; --models keeps them; --float8 writes the transformer in float8). Then the stage itself
runs once for each way, in a process of its own, with --steps Heun steps at --height and the
ControlNet in every evaluation.

s/eval    median over the steps after the first; one evaluation is ControlNet + transformer
loop      peak of torch's allocations while denoising; decode: while decoding
device    peak of what torch reserved, and the CUDA context (0.6 GiB and more)
host      RAM taken beyond the page cache: by how much the available memory fell
diff      RMS difference of the bundle to the first way's, of 1

The baseline is the first way. On a CPU (--device cpu, a rehearsal) device memory is not measured.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestrator.system.text import format_table

GIB = 1 << 30
WAYS: dict[str, dict[str, str]] = {
    "resident": {"placement": "resident"},
    "model": {"placement": "model"},
    "streamed": {"placement": "streamed"},
    "fp8": {"placement": "resident", "storage": "fp8"},
    "fp8-model": {"placement": "model", "storage": "fp8"},
    "fp8-streamed": {"placement": "streamed", "storage": "fp8"},
    "file": {"placement": "resident", "storage": "file"},
    "file-model": {"placement": "model", "storage": "file"},
    "file-streamed": {"placement": "streamed", "storage": "file"},
}


@dataclass(frozen=True)
class Size:
    """What is built: a net's width and depth, the VAE's widths, and the text."""

    heads: int
    head: int
    double: int
    single: int
    control_double: int
    control_single: int
    text: int
    pooled: int
    vae: tuple[int, ...]
    tokens: int

    def net(self, double: int, single: int) -> dict[str, Any]:
        axes = (self.head // 8, 7 * self.head // 16, 7 * self.head // 16)
        return {
            "num_layers": double,
            "num_single_layers": single,
            "attention_head_dim": self.head,
            "num_attention_heads": self.heads,
            "joint_attention_dim": self.text,
            "pooled_projection_dim": self.pooled,
            "guidance_embeds": True,
            "axes_dims_rope": axes,
            "in_channels": 64,
        }


FULL = Size(24, 128, 19, 38, 5, 10, 4096, 768, (128, 256, 512, 512), 512 + 729)
TINY = Size(2, 32, 2, 2, 1, 1, 32, 32, (16, 16, 32, 32), 8)


@dataclass(frozen=True)
class Sample:
    """One way's run. Bytes; -1 where not measured."""

    load: float
    evaluation: float
    loop: int
    decode: int
    device: int
    host: int


def write_models(folder: Path, size: Size, device: str, float8: bool) -> None:
    """Random checkpoints in the folders that KISS3D_MODELS wants; those that are there are kept."""
    import torch
    from diffusers import AutoencoderKL, FluxControlNetModel, FluxTransformer2DModel

    union = size.net(size.control_double, size.control_single) | {"num_mode": 10}
    vae = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": size.vae,
        "layers_per_block": 2,
        "latent_channels": 16,
        "norm_num_groups": min(32, size.vae[0]),
        "sample_size": 1024,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    }
    transformer = size.net(size.double, size.single)
    small = torch.float8_e4m3fn if float8 else torch.bfloat16
    for name, cls, config, dtype in (
        ("flux1-dev-transformer/transformer", FluxTransformer2DModel, transformer, small),
        ("flux1-controlnet-union", FluxControlNetModel, union, torch.bfloat16),
        ("flux1-dev-vae/vae", AutoencoderKL, vae, torch.bfloat16),
    ):
        write_model(folder / name, cls, config, device, dtype)
    scheduler = folder / "flux1-dev-vae" / "scheduler" / "scheduler_config.json"
    scheduler.parent.mkdir(exist_ok=True)
    scheduler.write_text("{}")


def write_model(target: Path, cls: Any, config: dict[str, Any], device: str, dtype: Any) -> None:
    """In shards of 4 GiB, so that the whole net is never in memory."""
    import torch
    from safetensors.torch import save_file

    if (target / "config.json").is_file():
        return
    target.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        model = cls.from_config(config)
    generator = torch.Generator(device).manual_seed(0)
    shards: dict[str, str] = {}
    for number, names in enumerate(in_shards(model)):
        tensors = {}
        for name, shape in names.items():
            values = torch.zeros(shape, device=device)
            if len(shape) > 1:  # keeps a layer's output as large as its input
                fan_in = values[0].numel()
                values.normal_(std=0.7 * fan_in**-0.5, generator=generator)
            elif name.endswith("weight"):
                values.fill_(1.0)
            tensors[name] = values.to(dtype).cpu()
        file = f"shard-{number}.safetensors"
        save_file(tensors, target / file)
        shards |= dict.fromkeys(tensors, file)
    index = target / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    if target.name == "flux1-controlnet-union":  # the catalogue asks for this file
        (target / "diffusion_pytorch_model.safetensors").touch()
    (target / "config.json").write_text(json.dumps(dict(model.config), default=list))


def in_shards(model: Any) -> Iterator[dict[str, Any]]:
    names: dict[str, Any] = {}
    total = 0
    for name, tensor in model.state_dict().items():
        names[name], total = tensor.shape, total + 2 * tensor.numel()
        if total > 4 * GIB:
            yield names
            names, total = {}, 0
    yield names


class HostMemory(threading.Thread):
    """The most by which the machine's available memory fell."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        import psutil

        self._available = lambda: psutil.virtual_memory().available
        self._before = self._lowest = self._available()
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.05):
            self._lowest = min(self._lowest, self._available())

    def taken(self) -> int:
        self._ended.set()
        return max(0, self._before - self._lowest)


def measure(way: str, size: Size, height: int, steps: int, device: str, bundle: Path) -> Sample:
    """Load the stage, run one job, and note what it took."""
    import numpy as np
    import torch

    from stages.contract import Context
    from stages.flux.stage import Flux, FluxParams

    cuda = device.startswith("cuda")
    host = HostMemory()
    host.start()
    moments: dict[str, float] = {}
    peaks = {"loop": -1, "decode": -1, "reserved": -1}

    def progress(*told: Any) -> None:
        note = told[2] if len(told) > 2 else ""
        if cuda:
            torch.cuda.synchronize()
            if note == "decode":
                peaks["loop"] = torch.cuda.max_memory_allocated()
                peaks["reserved"] = torch.cuda.max_memory_reserved()
                torch.cuda.reset_peak_memory_stats()
        moments[note] = time.perf_counter()

    context = Context(device, "bfloat16", threads=os.cpu_count() or 1, progress=progress)
    params = FluxParams(
        transformer="flux1-dev-transformer",
        width=2 * height,
        height=height,
        steps=steps,
        strength=1.0,
        controlnet=[{"mode": "tile", "end": 1.0}],
        lora_scale=0.0,
        **WAYS[way],
    )
    stage = Flux(params)
    began = time.perf_counter()
    stage.load(context)
    load = time.perf_counter() - began
    rng = np.random.default_rng(0)
    inputs = {
        "reference_bundle": rng.random((height, 2 * height, 3), np.float32),
        "prompt_embeds": rng.standard_normal((size.tokens, size.text)).astype(np.float32),
        "pooled_embeds": rng.standard_normal(size.pooled).astype(np.float32),
    }
    np.save(bundle, stage.run(inputs, context)["bundle"])
    reserved = -1
    if cuda:
        peaks["decode"] = torch.cuda.max_memory_allocated()
        free, total = torch.cuda.mem_get_info()
        outside = total - free - torch.cuda.memory_reserved()
        reserved = max(peaks["reserved"], torch.cuda.max_memory_reserved()) + outside
    spent = [
        moments[f"step {k}/{steps}"] - moments[f"step {k - 1}/{steps}"] for k in range(2, steps)
    ]
    evaluation = statistics.median(spent) / 2.0
    return Sample(load, evaluation, peaks["loop"], peaks["decode"], reserved, host.taken())


def in_process(way: str, folder: Path, bundle: Path, arguments: argparse.Namespace) -> Sample | str:
    """`measure` in a process of its own; the last line of its error where it fails."""
    command = [
        sys.executable,
        "-m",
        "bench.networks.flux_step",
        "--measure",
        way,
        "--bundle",
        str(bundle),
    ]
    for name in ("height", "steps", "device"):
        command += [f"--{name}", str(getattr(arguments, name))]
    command += ["--tiny"] if arguments.tiny else []
    environment = {**os.environ, "KISS3D_MODELS": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return Sample(**json.loads(done.stdout.splitlines()[-1]))


def table(samples: dict[str, Sample | str], folder: Path) -> str:
    import numpy as np

    rows = []
    base: Sample | None = None
    truth = None
    for way, sample in samples.items():
        if isinstance(sample, str):
            rows.append((way, sample[:60], *[""] * 7))
            continue
        bundle = np.load(folder / f"{way}.npy")
        if base is None:
            base, truth = sample, bundle
        sizes = (sample.loop, sample.decode, sample.device, sample.host)
        rows.append(
            (
                way,
                f"{sample.evaluation:.3f}",
                f"{sample.evaluation / base.evaluation:.2f}",
                *("-" if value < 0 else f"{value / GIB:.2f}" for value in sizes),
                f"{sample.load:.1f}",
                f"{float(np.sqrt(np.mean((bundle - truth) ** 2))):.4f}",
            )
        )
    header = ("way", "s/eval", "x first", "loop GiB", "decode", "device", "host", "load s", "diff")
    return format_table(header, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", type=Path, help="where the random checkpoints are kept")
    parser.add_argument("--ways", default="resident,model,streamed,fp8,fp8-model,fp8-streamed")
    parser.add_argument("--height", type=int, default=1024, help="pixels; the width is twice that")
    parser.add_argument("--steps", type=int, default=5, help="Heun steps, 3 or more")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument(
        "--float8", action="store_true", help="the transformer's file in float8, for file*"
    )
    parser.add_argument("--tiny", action="store_true", help="tiny nets, for a rehearsal")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--bundle", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size = TINY if arguments.tiny else FULL
    if arguments.measure:
        sample = measure(
            arguments.measure,
            size,
            arguments.height,
            arguments.steps,
            arguments.device,
            arguments.bundle,
        )
        print(json.dumps(asdict(sample)))
        return
    ways = arguments.ways.split(",")
    if unknown := set(ways) - set(WAYS):
        parser.error(f"unknown ways {', '.join(sorted(unknown))}; known: {', '.join(WAYS)}")
    if arguments.steps < 3:
        parser.error("--steps has to be 3 or more: the first and the last do not count")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.models or Path(scratch) / "models"
        write_models(folder, size, arguments.device, arguments.float8)
        samples = {}
        for way in ways:
            samples[way] = in_process(way, folder, Path(scratch) / f"{way}.npy", arguments)
            print(way, samples[way], file=sys.stderr)
        print(table(samples, Path(scratch)))


if __name__ == "__main__":
    main()
