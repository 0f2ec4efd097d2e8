"""When the nets' blocks are compiled, and whether that pays.

    compile   off      never
              blocks   from each job's second evaluation on
              auto     as soon as what it saves on the evaluations to come outweighs compiling

For `auto` a job's first steps are timed. To come are the evaluations that the job has left, and as
many jobs as this process has done: a batch is taken to be half over, for nobody tells a stage how
long it is. What compiling took and saved on this machine is kept for later runs.

A job's first evaluation is never compiled: what is measured and compared in it needs the blocks as
they are.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stages.flux.kept_figures import read_figures, write_figures
from stages.models.compiled_blocks import CompiledBlocks

Compile = Literal["off", "blocks", "auto"]

FIRST_SECONDS = 35.0
"""What compiling takes at first, until this machine has done it: 27 to 33 s beside an H200."""
AGAIN_SECONDS = 12.0
"""And with what an earlier process has left: 11 s there."""
GAIN = 0.15
"""Share of an evaluation's time that compiling saves, until this machine has done it: there 0.17 in
bfloat16, 0.23 in fp8."""


@dataclass(frozen=True)
class Expected:
    """seconds: of compiling; gain: share of an evaluation's time that it saves."""

    seconds: float
    gain: float

    @classmethod
    def of(cls, kept: dict[str, float]) -> Expected:
        """kept: `first`, `again` and `gain`, as far as they were measured."""
        seconds = kept.get("again", AGAIN_SECONDS) if "first" in kept else FIRST_SECONDS
        return cls(seconds, kept.get("gain", GAIN))

    def pays(self, evaluations: int, seconds: float) -> bool:
        """evaluations: to come; seconds: what one takes uncompiled."""
        return evaluations * seconds * self.gain > self.seconds


class Compiling:
    """Decides before each evaluation of a job whether blocks run compiled."""

    def __init__(self, mode: Compile, blocks: CompiledBlocks, folder: Path, file: str) -> None:
        """folder: where what is compiled is kept, and figures in this file."""
        self._mode, self._blocks, self._folder = mode, blocks, folder
        self._file = folder / file
        self._jobs = 0
        self._pace = _Pace()

    @contextlib.contextmanager
    def job(self, evaluations: int) -> Iterator[None]:
        """Around the evaluations of one job."""
        self._total, self._done = evaluations, 0
        self._spent = self._blocks.seconds
        self._pace = _Pace()
        self._ran = False
        try:
            with self._blocks.running(self._folder):
                yield
        finally:
            self._blocks.active = False
        self._jobs += 1
        self._keep()

    def before_evaluation(self) -> None:
        """Call it before each evaluation of a job."""
        if not self._ran:
            self._ran = self._done > 0 and self._wanted()
        self._blocks.active = self._ran
        self._pace.evaluation(self._ran)
        self._done += 1

    def skipped(self) -> None:
        """An evaluation was skipped: its step tells nothing of the time that others take."""
        self._pace.counts = False

    def after_step(self) -> None:
        """Call it after each step, when the device has done it."""
        self._pace.step(self._blocks.seconds)

    def told(self) -> str:
        """What people should know of the last job, "" for nothing."""
        if self._blocks.why_not:
            return f"blocks could not be compiled and ran as ever: {self._blocks.why_not}"
        if not self._ran:
            return ""
        seconds = self._blocks.seconds - self._spent
        return f"blocks ran compiled, which rounds otherwise (compiling took {seconds:.0f} s)"

    def _wanted(self) -> bool:
        if self._mode == "blocks":
            return True
        if self._pace.plain is None:
            return False
        coming = self._total - self._done + self._jobs * self._total
        return Expected.of(read_figures(self._file)).pays(coming, self._pace.plain)

    def _keep(self) -> None:
        """Keep what compiling took and saved, where this job measured it."""
        kept = read_figures(self._file)
        spent = self._blocks.seconds - self._spent
        if self._blocks.why_not or not self._ran:
            return
        if self._spent == 0.0 and spent > 0.0:  # the first in this process
            kept["again" if "first" in kept else "first"] = spent
        if self._pace.plain and self._pace.compiled:
            # Never nothing, so that it is tried again where a figure was off.
            kept["gain"] = max(0.01, 1.0 - self._pace.compiled / self._pace.plain)
        write_figures(self._file, kept)


class _Pace:
    """Seconds an evaluation, of the last step that was plain, and of the last that was compiled."""

    def __init__(self) -> None:
        self.plain: float | None = None
        self.compiled: float | None = None
        self._modes: list[bool] = []
        self._plain_steps = 0
        self.counts = True
        self._began = time.perf_counter()
        self._spent = 0.0

    def evaluation(self, compiled: bool) -> None:
        self._modes.append(compiled)

    def step(self, spent: float) -> None:
        """spent: seconds of compiling so far; a step in which there were some does not count."""
        now = time.perf_counter()
        if self._modes and spent == self._spent and self.counts:
            seconds = (now - self._began) / len(self._modes)
            if not any(self._modes):
                self._plain_steps += 1
                if self._plain_steps > 1:  # a job's first step warms up
                    self.plain = seconds
            elif all(self._modes):
                self.compiled = seconds
        self._began, self._spent, self._modes, self.counts = now, spent, [], True
