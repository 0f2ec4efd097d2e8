"""The two nets' forward passes in parts: up to behind their first block, and the rest.

The same modules in the same order on the same numbers as diffusers' `forward`s (0.42), so one part
after the other gives what they give, to the bit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class Flow:
    """What passes through a net's blocks.

    hidden    (1, L, D) image tokens; encoder: (1, T, D) text tokens
    temb      (1, D) embedded noise level, guidance and prompt
    rotary    positions of text and image tokens, as the attention takes them
    """

    hidden: torch.Tensor
    encoder: torch.Tensor
    temb: torch.Tensor
    rotary: Any

    def through(self, block: Any) -> None:
        self.encoder, self.hidden = block(
            hidden_states=self.hidden,
            encoder_hidden_states=self.encoder,
            temb=self.temb,
            image_rotary_emb=self.rotary,
        )


def begin(net: Any, shared: dict[str, Any], guidance: torch.Tensor | None) -> Flow:
    """Up to the first block of the transformer. shared: as for the net's `forward`."""
    hidden = net.x_embedder(shared["hidden_states"])
    temb = _embedded(net, hidden.dtype, shared, guidance)
    encoder = net.context_embedder(shared["encoder_hidden_states"])
    ids = torch.cat((shared["txt_ids"], shared["img_ids"]), dim=0)
    return Flow(hidden, encoder, temb, net.pos_embed(ids))


def begin_control(
    net: Any,
    shared: dict[str, Any],
    guidance: torch.Tensor | None,
    condition: torch.Tensor,
    mode: torch.Tensor,
) -> Flow:
    """Up to the first block of a ControlNet-Union.

    condition: (1, L, 64) the control image's tokens; mode: (1, 1) number of its mode.
    """
    hidden = net.x_embedder(shared["hidden_states"]) + net.controlnet_x_embedder(condition)
    temb = _embedded(net, hidden.dtype, shared, guidance)
    encoder = net.context_embedder(shared["encoder_hidden_states"])
    text_ids = shared["txt_ids"]
    if net.union:
        encoder = torch.cat([net.controlnet_mode_embedder(mode), encoder], dim=1)
        text_ids = torch.cat([text_ids[:1], text_ids], dim=0)
    ids = torch.cat((text_ids, shared["img_ids"]), dim=0)
    return Flow(hidden, encoder, temb, net.pos_embed(ids))


@dataclass
class ControlRest:
    """A ControlNet behind its first block: what it has found for the transformer's first ones.

    first   (1, L, D), scaled
    """

    net: Any
    flow: Flow
    scale: float
    sample: torch.Tensor
    first: torch.Tensor

    @classmethod
    def of(cls, net: Any, flow: Flow, scale: float) -> ControlRest:
        """Run the first block, and its projection."""
        flow.through(net.transformer_blocks[0])
        return cls(net, flow, scale, flow.hidden, net.controlnet_blocks[0](flow.hidden) * scale)

    def residuals(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """Run the rest: what is added to double blocks and to single ones."""
        net, flow = self.net, self.flow
        found: tuple[list[torch.Tensor], list[torch.Tensor]] = ([self.first], [])
        doubles = []
        for block in net.transformer_blocks[1:]:
            flow.through(block)
            doubles.append(flow.hidden)
        singles = []
        for block in net.single_transformer_blocks:
            flow.through(block)
            singles.append(flow.hidden)
        for project, sample in zip(net.controlnet_blocks[1:], doubles, strict=True):
            found[0].append(project(sample) * self.scale)
        for project, sample in zip(net.controlnet_single_blocks, singles, strict=True):
            found[1].append(project(sample) * self.scale)
        return found


def run_rest(
    net: Any,
    flow: Flow,
    double: Sequence[torch.Tensor] | None,
    single: Sequence[torch.Tensor] | None,
) -> None:
    """All of the transformer's blocks but the first; of `double` the first part was added to it."""
    blocks = net.transformer_blocks
    for number, block in enumerate(blocks[1:], 1):
        flow.through(block)
        if double:
            flow.hidden = flow.hidden + double[number // math.ceil(len(blocks) / len(double))]
    blocks = net.single_transformer_blocks
    for number, block in enumerate(blocks):
        flow.through(block)
        if single:
            flow.hidden = flow.hidden + single[number // math.ceil(len(blocks) / len(single))]


def end(net: Any, hidden: torch.Tensor, temb: torch.Tensor) -> torch.Tensor:
    """From behind the last block to the velocity, (1, L, 64)."""
    velocity: torch.Tensor = net.proj_out(net.norm_out(hidden, temb))
    return velocity


def _embedded(
    net: Any, dtype: torch.dtype, shared: dict[str, Any], guidance: torch.Tensor | None
) -> torch.Tensor:
    conditions = [shared["timestep"].to(dtype) * 1000]
    if guidance is not None:
        conditions.append(guidance.to(dtype) * 1000)
    found: torch.Tensor = net.time_text_embed(*conditions, shared["pooled_projections"])
    return found
