"""One evaluation of both nets with a cache that may spare all but their first blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from stages.contract import StageError
from stages.flux import split_nets
from stages.flux.first_block_cache import FirstBlockCache
from stages.flux.split_nets import ControlRest


@dataclass(frozen=True)
class CachedNets:
    """Both nets, and what is kept of their evaluations.

    transformer, controlnet  diffusers' models; None without controls
    skipped                  told after an evaluation of which the rest was not computed
    """

    transformer: Any
    controlnet: Any
    cache: FirstBlockCache
    skipped: Callable[[], None]

    def check(self) -> None:
        """Raise StageError (bad_input) for nets that have no first double block to go by."""
        nets = [net for net in (self.transformer, self.controlnet) if net is not None]
        hints = getattr(self.controlnet, "input_hint_block", None)
        if hints is not None or any(len(net.transformer_blocks) == 0 for net in nets):
            raise StageError(
                "bad_input",
                "the cache goes by the first double block of both nets, which these do not have",
                "set cache to 0",
            )

    def velocity(
        self,
        evaluation: int,
        shared: dict[str, Any],
        guidance: Sequence[torch.Tensor | None],
        controls: Sequence[tuple[torch.Tensor, int, float]],
    ) -> torch.Tensor:
        """(1, L, 64), as the nets' own `forward`s would give it, unless it is skipped.

        shared    what both nets are given
        guidance  of the transformer and of the ControlNet
        controls  tokens, number of the mode and scale of those that act
        """
        net, cache = self.transformer, self.cache
        heads = [self._head(shared, guidance[1], *control) for control in controls]
        flow = split_nets.begin(net, shared, guidance[0])
        before = flow.hidden
        flow.through(net.transformer_blocks[0])
        if heads:
            flow.hidden = flow.hidden + _sum([head.first for head in heads])
        behind = flow.hidden
        first = behind - before
        if cache.skips(evaluation, first):
            self.skipped()
            return split_nets.end(net, behind + cache.tail(evaluation), flow.temb)
        double, single = _added_up(heads)
        split_nets.run_rest(net, flow, double, single)
        cache.keep(evaluation, first, flow.hidden - behind)
        return split_nets.end(net, flow.hidden, flow.temb)

    def _head(
        self,
        shared: dict[str, Any],
        guidance: torch.Tensor | None,
        tokens: torch.Tensor,
        mode: int,
        scale: float,
    ) -> ControlRest:
        number = torch.tensor([[mode]], device=tokens.device)
        flow = split_nets.begin_control(self.controlnet, shared, guidance, tokens, number)
        return ControlRest.of(self.controlnet, flow, scale)


def _sum(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total + tensor
    return total


def _added_up(heads: Sequence[ControlRest]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """What all controls add, in their order, as the denoiser adds them without a cache."""
    found = [head.residuals() for head in heads]
    double, single = (
        [_sum(parts) for parts in zip(*(one[kind] for one in found), strict=True)]
        for kind in (0, 1)
    )
    return double, single
