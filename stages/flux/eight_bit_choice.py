"""Which way of multiplying a card is given, by what measures fastest on it.

    compute   bf16   in the attempt's dtype
              w8a8   in eight bits: int8 or fp8, whichever is faster on this card
              int8, fp8
              auto   w8a8 where a job takes less time so, loading included, else as bf16

A card is measured once, on one layer of FLUX's width, which takes a second; what it needed is kept
in the program's cache folder, so that the next run on the same card decides the same.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from stages.contract import StageError
from stages.flux.kept_figures import cache_folder, file_name, read_figures, write_figures
from stages.streaming.eight_bit import Kind, RoundingErrors, rounded
from stages.streaming.eight_bit_linear import EightBitLinear
from stages.streaming.fused_rounding import why_plain

Compute = Literal["bf16", "w8a8", "int8", "fp8", "auto"]

LEAST_CAPABILITY: Mapping[Kind, tuple[int, int]] = {"int8": (7, 5), "fp8": (8, 9)}
"""Of a card that has instructions for it."""
GAIN = 0.95
"""`auto` wants eight bits to take at most this share of the time."""
STREAMED_LOADING = 4.0
"""Seconds that loading takes longer where blocks are streamed: they pass through the card to be
rounded. 5.7 s in place of 1.9 beside an H200, within 6 GiB; none where weights are resident."""
_NUMBERS = 10.2e9
"""Weights that multiply a token in an evaluation: the transformer's, and the ControlNet's in 0.65
of the evaluations."""
_ROWS, _WIDTH, _OUT = 4096, 3072, 12288
"""Tokens, and a layer of the MLP in FLUX's single blocks."""
_REPEATS = 5


@dataclass(frozen=True)
class Choice:
    """kind: None for the attempt's dtype; note: why, for people, "" where nothing was to decide."""

    kind: Kind | None
    note: str = ""


def layers_of_job(evaluations: int, tokens: int) -> float:
    """How often the work of the measured layer is in a job. tokens: of image and text."""
    return evaluations * tokens * _NUMBERS / (_ROWS * _WIDTH * _OUT)


def choose(
    compute: Compute,
    device: torch.device,
    dtype: torch.dtype,
    layers: float = float("inf"),
    loading: float = 0.0,
) -> Choice:
    """Decide for a card or a CPU; only w8a8 and auto measure.

    layers: see `layers_of_job`; loading: seconds that it takes longer in eight bits.
    On a CPU w8a8 is int8, and auto is none: nothing is gained there.
    Raises StageError (bad_input) where the card cannot do what was asked for.
    """
    if compute == "bf16":
        return Choice(None)
    if device.type != "cuda":
        kind: Kind | None = None if compute == "auto" else "fp8" if compute == "fp8" else "int8"
        return Choice(kind, "" if kind else "eight bits gain nothing on a CPU")
    capability = torch.cuda.get_device_capability(device)
    able = [kind for kind, least in LEAST_CAPABILITY.items() if capability >= least]
    if compute in ("int8", "fp8"):
        asked: Kind = "fp8" if compute == "fp8" else "int8"
        if asked not in able:
            raise _unable(f"{asked} matrices", capability)
        return Choice(asked)
    seconds = measured(device, dtype, able) if able else {}
    times = {kind: seconds[kind] for kind in able if kind in seconds}
    if not times:
        if compute == "w8a8":
            raise _unable("matrices of eight bits", capability)
        return Choice(None, "this card does not multiply in eight bits")
    best = min(times, key=lambda kind: times[kind])
    share = times[best] / seconds["plain"]
    told = f"{best} took {share:.2f} of {str(dtype).removeprefix('torch.')}'s time in one layer"
    if compute == "auto" and share > GAIN:
        return Choice(None, f"not in eight bits: {told}")
    saved = layers * (seconds["plain"] - times[best])
    if compute == "auto" and saved < loading:
        return Choice(
            None,
            f"not in eight bits: {told}, which saves {saved:.1f} s of a job, and loading takes "
            f"{loading:.0f} s longer",
        )
    return Choice(best, told)


def measured(device: torch.device, dtype: torch.dtype, kinds: list[Kind]) -> Mapping[str, float]:
    """Seconds of one layer by kind, and in `dtype` as "plain"; kinds that failed are absent."""
    # Without Triton's kernels it is another measurement.
    words = [dtype, *(["plain"] if why_plain() else [])]
    file = cache_folder() / file_name("eight-bit", device, *words)
    found = read_figures(file)
    if "plain" not in found:
        found = _measure(device, dtype, kinds)
        torch.cuda.empty_cache()
        write_figures(file, found)
    return found


def _measure(device: torch.device, dtype: torch.dtype, kinds: list[Kind]) -> dict[str, float]:
    generator = torch.Generator(device).manual_seed(0)
    values = torch.randn(_ROWS, _WIDTH, device=device, dtype=dtype, generator=generator)
    layer = nn.Linear(_WIDTH, _OUT, device=device, dtype=dtype).requires_grad_(False)
    found = {"plain": _seconds(lambda: layer(values))}
    for kind in kinds:
        small = EightBitLinear(layer, kind, RoundingErrors())
        q, scale = rounded(layer.weight, kind)
        small.weight.copy_(q)
        small.scale.copy_(scale[:, 0])
        with contextlib.suppress(RuntimeError):  # a driver or torch without this product
            found[kind] = _seconds(_anew(small, values))
    return found


def _anew(layer: EightBitLinear, values: torch.Tensor) -> Callable[[], Any]:
    """A call that rounds the values each time: the same tensor would be rounded once."""
    return lambda: layer(values.view_as(values))


@torch.no_grad()
def _seconds(call: Callable[[], Any]) -> float:
    """Median of a few calls, after two that do not count."""
    times = []
    for number in range(_REPEATS + 2):
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        call()
        after.record()
        after.synchronize()
        if number >= 2:
            times.append(before.elapsed_time(after) / 1e3)
    return statistics.median(times)


def _unable(what: str, capability: tuple[int, int]) -> StageError:
    major, minor = capability
    return StageError(
        "bad_input",
        f"a card of compute capability {major}.{minor} cannot multiply {what}",
        "set compute to bf16, or to auto, which takes eight bits only where they are faster",
    )
