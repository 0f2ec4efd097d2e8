"""What the params `allow_tf32` and `attention` do to each model's speed, memory and numbers.

    python -m bench.networks.kernels [--repeats 10] [--only multiview lrm flux] [--device cuda|cpu]
        [--tiny]

Real modules at the sizes of a full run, with random weights made on the spot (time does not depend
on the values), computing under `stages.models.kernels` as the stages do:

    multiview  one denoising step of Zero123++: the UNet writes the reference's tokens, then reads
               them; grid of 1024 x 1024 pixels, both guidance passes
    lrm        PRM's encoder and triplane transformer on four views
    flux       one double and one single block at 1024 x 2048 pixels with T5's and Redux's tokens

Each model computes in the dtype that the profiles give it; multiview in float32 besides, which
shows what TF32 is worth where a card computes in float32. One row a setting:

ms          median of the repeats, after two that do not count
x default   ratio to the first row of the same model and dtype: the params' defaults
difference  relative L2 distance of the output to that row's
attention   the kernels that PyTorch took; one that was chosen and cannot do a layer is passed over
peak MiB    most that torch had allocated, weights included (GPU only)

--tiny rehearses it all with tiny networks, on the CPU if need be.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from orchestrator.system.text import format_table
from stages.models.kernels import BackendParams, backends

MIB = float(1 << 20)
WARM_UP = 2
WAYS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "allow_tf32": {"allow_tf32": True},
    **{
        f"attention={name}": {"attention": name} for name in ("flash", "efficient", "cudnn", "math")
    },
}
COLUMNS = ("model", "dtype", "way", "ms", "x default", "difference", "attention", "peak MiB")
KERNEL = re.compile(
    r"aten::_scaled_dot_product_((fused_)?(?P<fused>[a-z]+)_attention\w*|attention_(?P<plain>math)\w*)"
)
Compute = Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Place:
    """Where and how large: `tiny` for a rehearsal."""

    device: torch.device
    dtype: torch.dtype
    tiny: bool

    def normal(self, *shape: int, scale: float = 1.0) -> torch.Tensor:
        """The same numbers on every device."""
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))
        return (scale * drawn).to(self.device, self.dtype)


def multiview(place: Place) -> Compute:
    """One denoising step, both guidance passes."""
    from diffusers import UNet2DConditionModel

    from devtools.tiny.zero123plus import PUBLISHED, TINY
    from stages.multiview.zero123plus.reference_attention import ReferenceUNet

    sizes = (TINY if place.tiny else PUBLISHED).unet
    unet = ReferenceUNet(_made(lambda: UNet2DConditionModel(**sizes), place))
    side = 16 if place.tiny else 128
    latents = place.normal(2, 4, side, side)
    reference = place.normal(2, 4, side // 2, side // 2)
    text = place.normal(2, 77, sizes["cross_attention_dim"])
    timestep = torch.tensor(500, device=place.device)
    return lambda: unet(latents, timestep, text, reference)


def lrm(place: Place) -> Compute:
    """Four views of 512 pixels to triplanes."""
    from devtools.tiny.prm import TINY, prm_tensors
    from stages.lrm.prm.cameras import condition_vectors
    from stages.lrm.prm.config import PrmConfig
    from stages.lrm.prm.model import Prm

    config = TINY if place.tiny else PrmConfig()
    model = _made(lambda: Prm(config), place)
    model.load_state_dict(prm_tensors(config))
    cameras = torch.from_numpy(condition_vectors())[None].to(place.device)
    side = 64 if place.tiny else 512
    images = place.normal(1, cameras.shape[1], 3, side, side, scale=0.2)
    return lambda: model.planes(images + 0.5, cameras)


def flux(place: Place) -> Compute:
    """A double block, then a single one."""
    from diffusers.models.transformers.transformer_flux import (
        FluxPosEmbed,
        FluxSingleTransformerBlock,
        FluxTransformerBlock,
    )

    from stages.flux.latents import image_ids

    heads, head, text, height, width = (
        (2, 32, 24, 16, 32) if place.tiny else (24, 128, 1241, 128, 256)
    )
    width_of_all = heads * head
    double = _made(lambda: FluxTransformerBlock(width_of_all, heads, head), place)
    single = _made(lambda: FluxSingleTransformerBlock(width_of_all, heads, head), place)
    positions = image_ids(height, width, place.device)
    ids = torch.cat([positions.new_zeros(text, 3), positions])
    rotary = FluxPosEmbed(10_000, [head // 8, 7 * head // 16, 7 * head // 16])(ids)
    words, pixels = (place.normal(1, n, width_of_all) for n in (text, len(positions)))
    time_embedding = place.normal(1, width_of_all)

    def compute() -> torch.Tensor:
        read, seen = double(pixels, words, time_embedding, rotary)
        return torch.cat(single(seen, read, time_embedding, rotary), dim=1)

    return compute


MODELS: Mapping[str, tuple[Callable[[Place], Compute], tuple[torch.dtype, ...]]] = {
    "multiview": (multiview, (torch.float16, torch.float32)),
    "lrm": (lrm, (torch.float32,)),
    "flux": (flux, (torch.bfloat16,)),
}


def _made(make: Callable[[], Any], place: Place) -> Any:
    """A module with its initial values, made where it will compute."""
    torch.manual_seed(0)
    with place.device:
        return make().to(place.dtype).eval().requires_grad_(False)


@dataclass(frozen=True)
class Measured:
    """One row. output: on the CPU, float64."""

    seconds: float
    output: torch.Tensor
    kernels: str
    peak: float


def _kernel(operation: str) -> str:
    """flash, efficient, cudnn or math, if an operation is attention, else ""."""
    found = KERNEL.fullmatch(operation)
    return (found["fused"] or found["plain"]) if found else ""


def measure(
    compute: Compute, params: BackendParams, device: torch.device, repeats: int
) -> Measured:
    """Raises torch.OutOfMemoryError where the kernel's own memory does not fit."""
    on_gpu = device.type == "cuda"
    with torch.inference_mode(), backends(params):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            output = compute()
        for _ in range(WARM_UP - 1):
            compute()
        if on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            compute()
            if on_gpu:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
    kernels = " ".join(sorted({_kernel(event.key) for event in profile.key_averages()} - {""}))
    peak = torch.cuda.max_memory_allocated() / MIB if on_gpu else 0.0
    return Measured(statistics.median(seconds), output.double().cpu(), kernels, peak)


def rows(name: str, place: Place, repeats: int) -> Iterator[tuple[str, ...]]:
    """A model's rows, its defaults first."""
    compute = MODELS[name][0](place)
    head = (name, str(place.dtype).removeprefix("torch."))
    default: Measured | None = None
    for way, params in WAYS.items():
        try:
            found = measure(compute, BackendParams(**params), place.device, repeats)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            yield (*head, way, "out of memory", "", "", "", "")
            continue
        default = default or found
        apart = (found.output - default.output).norm() / default.output.norm()
        yield (
            *head,
            way,
            f"{1000 * found.seconds:.2f}",
            f"{found.seconds / default.seconds:.2f}",
            f"{float(apart):.1e}",
            found.kernels,
            f"{found.peak:.0f}" if found.peak else "",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--only", nargs="+", choices=tuple(MODELS), default=tuple(MODELS))
    parser.add_argument("--tiny", action="store_true", help="a rehearsal")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda":
        print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}", file=sys.stderr)
    table = []
    for name in arguments.only:
        for dtype in MODELS[name][1]:
            # float16 is never computed in on the CPU.
            used = torch.bfloat16 if device.type == "cpu" and dtype == torch.float16 else dtype
            for row in rows(name, Place(device, used, arguments.tiny), arguments.repeats):
                print("  ".join(row), file=sys.stderr, flush=True)
                table.append(row)
    print(format_table(COLUMNS, table))


if __name__ == "__main__":
    main()
