"""One stage process in the service of one node and rung: from the request to GONE.

    starting -> imported -> loading -> idle <-> running -> stopping -> measuring -> gone

A session turns what the process says, and how it ends, into a few happenings that the runner acts
on. It owns the process's deadlines: hello, load, run, heartbeat, stop. What the process may say
when is in `protocol_rules`; anything else is its fault, ends it, and counts as any failure does.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from orchestrator.pipeline.budget import NO_LIMIT, Budget
from orchestrator.pipeline.graph import Node
from orchestrator.pipeline.profile import Attempt, Runtime
from orchestrator.processes.handle import Ended, Event, Spoke, SpokeGarbage, StageProcess
from orchestrator.processes.hub import ProcessHub
from orchestrator.running.protocol_rules import EXPECTED, State, what_is_wrong
from orchestrator.running.session_ends import died, hung, took_too_long
from orchestrator.running.session_events import (
    Gone,
    Imported,
    JobDone,
    JobFailed,
    Loaded,
    Previewed,
    Progressed,
    SessionEvent,
    StageFailure,
)
from orchestrator.system import clock
from orchestrator.system.gpu import MIB, Card, GpuMonitor, Ledger, Release
from stages.contract import FailureKind
from stages.process import protocol

_SAMPLE_SECONDS = 0.1
_MIXED_UP_HINT = "it is faulty, or two installations are mixed up: reinstall in one environment"


@dataclass(eq=False)
class Session:
    """See the module's docstring. `job` is the job in flight, or ""."""

    node: Node
    rung: int
    hub: ProcessHub
    process: StageProcess
    runtime: Runtime
    monitor: GpuMonitor
    log: Path
    threads: int
    budget: Budget = NO_LIMIT
    card: Card | None = None
    state: State = "starting"
    job: str = ""
    served: int = 0
    timings: dict[str, float] = field(default_factory=dict)
    rss: int = 0
    peak_rss: int = 0
    vram: int = -1

    def __post_init__(self) -> None:
        now = clock.now()
        self._since = now
        self._heard = now
        self._sampled = 0.0
        self._doom: StageFailure | None = None
        self._kill_at = float("inf")
        self._prepared = False
        self._terminated = False
        self._ledger: Ledger | None = None
        self._previews = 0

    @property
    def attempt(self) -> Attempt:
        return self.node.config.attempts[self.rung]

    @property
    def waited_a_load(self) -> float:
        """`clock.now()` when it will have been in its state for as long as its load took."""
        return self._since + self.timings.get("import", 0.0) + self.timings.get("load", 0.0)

    @property
    def ended(self) -> bool:
        return self.state in ("stopping", "measuring", "gone")

    @property
    def doomed(self) -> bool:
        """It is being ended for what it did, and gets nothing more to do."""
        return self._doom is not None

    @property
    def fault(self) -> str:
        """For what it was ended, or ""."""
        return self._doom.message if self._doom else ""

    def prepare(self) -> None:
        """Have a process that waits for a card read its weights into the page cache, once."""
        if self.state == "imported" and not self._prepared:
            self._prepared = True
            limit = self.budget.host or sys.maxsize
            self.hub.send(self.process, protocol.Prepare(params=self._params, limit=limit))

    @property
    def _params(self) -> dict[str, Any]:
        return {**self.node.params, **self.attempt.params}

    def load(self, card: Card | None) -> None:
        """Tell an imported process to load; with a card it may use the GPU from now on."""
        self.card = card
        device = "cpu"
        if card is not None:
            device = "cuda:0"
            tolerance = self.runtime.vram_tolerance_mib * MIB
            self._ledger = Ledger(
                self.monitor, card.index, tolerance, self.runtime.release_deadline
            )
        self._enter("loading")
        self.hub.send(
            self.process,
            protocol.Load(
                device=device,
                gpu=card.visible if card else "",
                dtype=self.attempt.dtype,
                params=self._params,
                threads=self.threads,
                vram_bytes=self.budget.vram if card is not None else 0,
                host_bytes=self.budget.host,
            ),
        )

    def run(
        self,
        job: str,
        inputs: Mapping[str, list[str]],
        folder: Path,
        scratch: Path,
        seed: int,
        previews: int = 0,
    ) -> None:
        """Give an idle process its next job. previews: how many pictures it may show on the way."""
        self.job, self._previews = job, previews
        self._enter("running")
        self.hub.send(
            self.process,
            protocol.Run(
                job=job,
                inputs=dict(inputs),
                folder=str(folder),
                scratch=str(scratch),
                seed=seed,
                previews=previews,
            ),
        )

    def stop(self) -> None:
        """Ask the process to end politely; after the grace period it is made to."""
        if self.ended:
            return
        if self.state == "starting":
            self.process.kill()
        else:
            self.hub.send(self.process, protocol.Exit())
        self._kill_at = clock.now() + self.runtime.stop_grace
        self._enter("stopping")

    def terminate(self) -> None:
        """End it whatever it is doing: SIGTERM to the group now, SIGKILL after the grace."""
        if self.state in ("measuring", "gone") or self._terminated:
            return
        self._terminated = True
        self.process.terminate()
        self._kill_at = min(self._kill_at, clock.now() + self.runtime.stop_grace)
        if self.state == "starting":
            self.process.kill()

    def kill(self) -> None:
        self.process.kill()

    def next_deadline(self) -> float:
        """`clock.now()` at which `tick` has something to do, at the latest."""
        if self.state == "gone":
            return float("inf")
        soonest = min(self._kill_at, self._deadline())
        if self._ledger is not None:
            soonest = min(soonest, clock.now() + _SAMPLE_SECONDS / 2)
        return soonest

    def tick(self) -> list[SessionEvent]:
        """Enforce deadlines and sample the card."""
        now = clock.now()
        if self.state == "gone":
            return []
        if self.state == "measuring":
            return self._measure()
        if self._ledger is not None and now - self._sampled >= _SAMPLE_SECONDS:
            self._sampled = now
            self.vram = self._ledger.sample(self.process.pid)
        if now >= self._kill_at:
            self._kill_at = float("inf")
            self.kill()
        elif now >= self._deadline() and self._doom is None:
            self._doom = self._overdue(now)
            self.terminate()
        return []

    def _enter(self, state: State) -> None:
        self.state = state
        self._since = clock.now()

    def _deadline(self) -> float:
        if self._doom is not None or self.ended:
            return float("inf")
        silence = self._heard + self.runtime.heartbeat_timeout
        if self.state in ("starting", "loading"):
            limit = self._since + self.node.config.load_timeout
            return limit if self.state == "starting" else min(limit, silence)
        if self.state == "running":
            return min(self._since + self.node.config.timeout, silence)
        return silence

    def _overdue(self, now: float) -> StageFailure:
        limit = self.runtime.heartbeat_timeout
        if now >= self._heard + limit and self.state != "starting":
            return hung(self.state, limit)
        return took_too_long(self.state, self.node)

    def on_event(self, event: Event) -> list[SessionEvent]:
        """What a hub event about this session's process means."""
        self._heard = clock.now()
        if isinstance(event, Spoke):
            return self._on_message(event.message, event.contents)
        if isinstance(event, SpokeGarbage):
            self._at_fault(f"sent something that is no message: {event.error}")
            return []
        assert isinstance(event, Ended)
        return self._on_end()

    def _at_fault(self, what: str, hint: str = "") -> None:
        """The process broke the rules: nothing that it says from now on counts."""
        if self._doom is None and not self.ended:
            self._doom = StageFailure("internal", f"the process {what}", hint)
        self.kill()

    def _on_message(self, message: protocol.Message, contents: bytes) -> list[SessionEvent]:
        if self._doom is not None or self.ended:
            return []
        following = EXPECTED.get((self.state, type(message)))
        stage, wanted = self.node.config.stage, self._previews
        if wrong := what_is_wrong(message, following, stage, self.job, wanted):
            name = type(message).__name__.lower()
            self._at_fault(f"sent a {name} {wrong} while {self.state}", _MIXED_UP_HINT)
            return []
        assert following is not None
        happenings = self._understand(message, contents)
        if following != self.state and not self.ended:
            self._enter(following)
        return happenings

    def _understand(self, message: protocol.Message, contents: bytes) -> list[SessionEvent]:
        """Take in what an expected message says."""
        match message:
            case protocol.Hello():
                return [Imported()]
            case protocol.Heartbeat():
                self.rss = message.rss
                self.peak_rss = max(self.peak_rss, message.rss)
            case protocol.Ready():
                self.timings = dict(message.timings)
                return [Loaded()]
            case protocol.Progress():
                return [Progressed(message.job, message.step, message.total, message.note)]
            case protocol.Preview():
                self._previews -= 1
                return [Previewed(message)]
            case protocol.Done():
                self._note_peaks(message.peaks)
                self._finish_job()
                return [JobDone(message, contents)]
            case protocol.Failed():
                return self._on_failed(message)
        return []

    def _note_peaks(self, peaks: Mapping[str, int]) -> None:
        self.peak_rss = max(self.peak_rss, peaks.get("rss", 0))
        if self._ledger is not None:
            reserved, most = (peaks.get(key, -1) for key in ("reserved", "vram"))
            self._ledger.report(self.process.pid, reserved, most)

    def _finish_job(self) -> None:
        self.job = ""
        self.served += 1

    def _on_failed(self, message: protocol.Failed) -> list[SessionEvent]:
        failure = StageFailure(cast(FailureKind, message.kind), message.message, message.hint)
        self._note_peaks(message.peaks)
        if message.job:
            self._finish_job()
        if message.fatal or not message.job:
            self.stop()
        return [JobFailed(message.job, failure)]

    def _on_end(self) -> list[SessionEvent]:
        """The process is reaped: tell what was lost with it, then account for its memory."""
        happenings: list[SessionEvent] = []
        lost_load = self.state in ("starting", "imported", "loading") or (
            self.state == "idle" and self.served == 0
        )
        if self.state == "running" or lost_load:
            before = "was ready" if lost_load else "was done"
            failure = self._doom or died(self.process, before, self.log)
            happenings.append(JobFailed("" if lost_load else self.job, failure))
        self._enter("measuring")
        return happenings + self._measure()

    def _measure(self) -> list[SessionEvent]:
        release: Release | None = Release("no gpu used")
        if self._ledger is not None:
            release = self._ledger.verdict(self.process.pid)
        if release is None:
            return []
        self._enter("gone")
        return [Gone(release)]
