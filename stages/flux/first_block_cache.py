"""Evaluations of which only the nets' first blocks are computed, where these change little.

Let h be the image tokens in front of the transformer's blocks, f those behind its first block with
the ControlNet's first contribution added, and e those behind its last. An evaluation computes f of
both nets. If f - h is near what it was in the last evaluation that was computed whole,

    mean |(f - h) - (f - h)_then| < threshold x mean |(f - h)_then|

then e = f + (e - f)_then, and no other block runs or is streamed. (e - f) holds what both nets
added, so a control image acts in what is skipped as it did then; adding a cached tail of the
transformer to ControlNet's residuals, as caches for the transformer alone would, counts them twice.

Not skipped is
- a step in which the acting controls are others than in the step before or after it: what is kept
  from before has another control in it, and the last evaluation of a control is its own;
- anything before there is something to keep.

Heun's step has two evaluations, and what it gains over Euler's is their difference. So each of the
two is kept by itself, and the second is computed or skipped as the first was.

The decision is from Cheng, "ParaAttention" (first-block cache); the kind of change it compares and
what it keeps are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

_SECOND = 1


@dataclass
class _Kept:
    """Of an evaluation that was computed: f - h, and e - f."""

    first: torch.Tensor
    tail: torch.Tensor


@dataclass
class FirstBlockCache:
    """The decisions of one job.

    threshold  of the relative change of f - h; 0: everything is computed
    acting     which controls act in each evaluation
    reuse      whether a step has one evaluation, else two
    skipped    evaluations that were not computed whole, so far
    """

    threshold: float
    acting: Sequence[frozenset[int]]
    reuse: bool
    skipped: int = 0
    _kept: dict[int, _Kept] = field(default_factory=dict)
    _skipping: bool = False

    def skips(self, evaluation: int, first: torch.Tensor) -> bool:
        """Whether an evaluation can do with its first blocks. first: its f - h.

        Waits for the device, unless nothing is to be compared.
        """
        place = self._place(evaluation)
        kept = self._kept.get(place)
        if kept is None or self.threshold <= 0.0 or not self._may(evaluation):
            skips = False
        elif place == _SECOND:
            skips = self._skipping
        else:
            change = (first - kept.first).abs().mean() / kept.first.abs().mean()
            skips = bool(change < self.threshold)
        self._skipping = skips
        self.skipped += skips
        return skips

    def keep(self, evaluation: int, first: torch.Tensor, tail: torch.Tensor) -> None:
        """Of an evaluation that was computed whole: f - h and e - f."""
        self._kept[self._place(evaluation)] = _Kept(first, tail)

    def tail(self, evaluation: int) -> torch.Tensor:
        """e - f of the last one of this kind that was computed."""
        return self._kept[self._place(evaluation)].tail

    def _place(self, evaluation: int) -> int:
        """0 for the first evaluation of a step, 1 for the second."""
        return 0 if self.reuse else evaluation % 2

    def _may(self, evaluation: int) -> bool:
        """Whether the same controls act in this step and its neighbours."""
        length = 1 if self.reuse else 2
        step = evaluation // length
        near = self.acting[max(0, (step - 1) * length) : (step + 2) * length]
        return len(set(near)) == 1
