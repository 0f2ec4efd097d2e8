"""What to do after a failure: which kinds move down a node's ladder, repeat, or end the job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from orchestrator.pipeline.profile import Attempt
from stages.contract import FailureKind

Action = Literal["repeat", "next_rung", "end"]

FINAL: frozenset[FailureKind] = frozenset({"bad_input", "disk_full"})
"""Nothing that another process could do differently."""
REPEATED: frozenset[FailureKind] = frozenset({"crashed", "timed_out"})
"""May be an accident: tried again on the same rung as often as the rung allows."""

_WHY = {
    "bad_input": "the input itself cannot be used",
    "missing_weights": "the weights of this rung are not on this machine",
    "missing_dependency": "a package that this rung needs does not work here",
    "out_of_memory": "this rung needs more memory than there is",
    "gpu_unavailable": "no usable GPU for this rung",
    "gpu_fault": "the GPU code failed and its context is lost",
    "crashed": "the process died",
    "timed_out": "it took too long",
    "disk_full": "the disk is full",
    "internal": "the stage failed on its own",
}


@dataclass(frozen=True)
class Move:
    """The decision, and the reason that is shown and recorded."""

    action: Action
    rung: int
    reason: str

    def __str__(self) -> str:
        return f"{self.action.replace('_', ' ')}: {self.reason}"


def decide(kind: FailureKind, rung: int, tries_on_rung: int, ladder: Sequence[Attempt]) -> Move:
    """What follows the failure of try number `tries_on_rung` (from 1) on rung `rung`.

    A repeat or a fall always means a new process: a CUDA error poisons its context.
    """
    why = _WHY[kind]
    if kind in FINAL:
        return Move("end", rung, why)
    if kind in REPEATED and tries_on_rung < ladder[rung].tries:
        return Move("repeat", rung, f"{why}; try {tries_on_rung + 1} of {ladder[rung].tries}")
    if rung + 1 < len(ladder):
        below = ladder[rung + 1]
        return Move("next_rung", rung + 1, f"{why}; next rung runs on {below.device}")
    return Move("end", rung, f"{why}, and the ladder ends here")
