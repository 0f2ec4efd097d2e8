"""How much of the device and of host memory is for what, in bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.contract import Context, StageError
from stages.flux.autoencoder import least_decode_bytes
from stages.models.free_memory import free_bytes
from stages.process.vram_cap import CONTEXT_BYTES

if TYPE_CHECKING:
    import torch

    from stages.flux.params import FluxParams

_GIB = 1 << 30

HIDDEN_STATES = 50
"""Hidden states (tokens x width) that an evaluation has allocated at its peak, ControlNet-Union's
15 residuals among them. Measured on an H100 in bfloat16, 8192 + 1241 tokens, width 3072: 2.0 GiB
of a bare evaluation, which are 37; the whole stage wanted 50 MiB more than 41, and ran with 50."""

EIGHT_BIT_STATES = 6
"""Besides, where it multiplies in eight bits: the widest rounded activations (5 widths of a byte)
and int8's sums, of 4096 rows of 4 widths at a time."""

CACHE_STATES = 6
"""And where evaluations are cached: two tensors of each of Heun's two, and the differences."""

MARGIN = 1 << 29
"""Left free where no limit is given: others may take some while we plan."""

_FREE_HOST_SHARE = 0.75
"""Of the host memory that is free where no limit is given: what is registered cannot be swapped,
and the page cache makes the file tier fast."""

_RING_SHARE = 4
"""On a CPU, a quarter of the budget is for reading ahead, the rest for weights."""


@dataclass(frozen=True)
class NetBudget:
    """weights: on the device; host: registered memory beside it; device: all that may be allocated
    there, activations included."""

    weights: int
    host: int
    device: int


def activation_bytes(
    width: int,
    image_tokens: int,
    text_tokens: int,
    itemsize: int,
    residuals: int,
    eight_bit: bool = False,
    cached: bool = False,
) -> int:
    """What an evaluation allocates besides weights.

    width: of a token; itemsize: bytes of a number; residuals: the ControlNet's outputs that are
    held twice, since several controls are added up (0 for one control); eight_bit: whether it
    multiplies so; cached: whether evaluations are.
    """
    held = HIDDEN_STATES + EIGHT_BIT_STATES * eight_bit + CACHE_STATES * cached
    states = held * (image_tokens + text_tokens) + residuals * image_tokens
    return states * width * itemsize


def plan_budget(context: Context, activations: int) -> NetBudget:
    """What the context leaves for weights.

    On a CPU the device is host memory: `host_bytes` is divided between weights and ring.
    """
    if context.device == "cpu":
        limit = context.host_bytes or max(0, free_bytes("cpu") - activations - MARGIN)
        ring = limit // _RING_SHARE
        return NetBudget(limit - ring, ring, limit - ring + activations)
    device = context.vram_bytes - CONTEXT_BYTES
    if not context.vram_bytes:
        device = free_bytes(context.device) - MARGIN
    host = context.host_bytes or int(_FREE_HOST_SHARE * free_bytes("cpu"))
    return NetBudget(max(0, device - activations), host, device)


def require_room_to_decode(params: FluxParams, context: Context, dtype: torch.dtype) -> None:
    """Raise StageError (out_of_memory) now, not when all steps are done.

    dtype: that the nets compute in.
    """
    if params.vae_tiling or not context.vram_bytes:
        return
    needed = CONTEXT_BYTES + least_decode_bytes(params.height, params.width, dtype)
    if needed > context.vram_bytes:
        raise StageError(
            "out_of_memory",
            f"decoding {params.width} x {params.height} in one piece takes {needed / _GIB:.1f} GiB "
            f"of the card, {context.vram_bytes / _GIB:.1f} may be used",
            "set vae_tiling to true, or allow more",
        )
