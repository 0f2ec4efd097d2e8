"""One stage and one job, outside of a run: in a process of its own, or in this one.

Both ways load the same `StageRunner` and hand over through the same checks, and the process is the
same `Session` that a run has, so that a stage does alone what it does in a run.
"""

from __future__ import annotations

import codecs
import os
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.pipeline.graph import Node
from orchestrator.pipeline.profile import Attempt, NodeConfig, Runtime
from orchestrator.processes.hub import NO_CARD, ProcessHub
from orchestrator.processes.workspace import open_workspace
from orchestrator.running.session import Session
from orchestrator.running.session_events import (
    Imported,
    JobDone,
    JobFailed,
    Loaded,
    Progressed,
    SessionEvent,
    StageFailure,
)
from orchestrator.running.spread import threads_alone
from orchestrator.system import clock
from orchestrator.system.gpu import Card, GpuMonitor
from stages.contract import Context
from stages.contract.failures import classify
from stages.contract.registry import stage_class
from stages.process.protocol import INLINE_MAX_BYTES, Done

FOREVER = 1e9
"""Seconds, thirty years: a debugger may hold a stage as long as it likes."""
_JOB = "job"
_SHOW_SECONDS = 0.1
"""How often what the stage prints is looked for."""
Progress = Callable[[int, int, str], None]


class JobFailedError(Exception):
    """The job ended in `failure`."""

    def __init__(self, failure: StageFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True)
class StageJob:
    """A stage, and what it is to do.

    subject  whose job it is, for people: a picture, a run and its node
    inputs   input name -> absolute paths of its files
    output   folder of the files that it writes; absolute
    card     the one that it may use; None: the CPU computes
    """

    subject: str
    stage: str
    params: Mapping[str, Any]
    inputs: Mapping[str, Sequence[str]]
    output: Path
    seed: int
    dtype: str = "float32"
    card: Card | None = None

    @property
    def threads(self) -> int:
        """Threads that it computes with: as many as in a run of one picture."""
        return threads_alone(Runtime())


def compute_here(job: StageJob, progress: Progress) -> tuple[Done, bytes]:
    """Compute in this process, so that breakpoints and profilers work.

    Returns the message that a process would send, and the contents of the small files behind it.
    Raises `JobFailedError`; what is no failure of a known kind prints its traceback first.
    """
    from stages.process.stage_runner import StageRunner

    os.environ["CUDA_VISIBLE_DEVICES"] = job.card.visible if job.card else ""
    device = "cuda:0" if job.card else "cpu"
    runner = StageRunner(job.stage, INLINE_MAX_BYTES)
    inputs = {name: [Path(path) for path in paths] for name, paths in job.inputs.items()}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        try:
            runner.load(job.params, Context(device, job.dtype, threads=job.threads))
            result = runner.run(
                inputs,
                job.output,
                Path(scratch),
                job.seed,
                lambda step, total, note="": progress(step, total, note),
            )
        except Exception as error:
            failure = classify(error)
            if failure.kind == "internal":
                traceback.print_exc()
            told = StageFailure(failure.kind, failure.message, failure.hint)
            raise JobFailedError(told) from error
        finally:
            runner.close()
    return result.message(_JOB, {})


def compute_isolated(
    job: StageJob, log: Path, progress: Progress, show: Callable[[str], None]
) -> tuple[Done, bytes]:
    """The same in a process of its own, which prints into `log`, and from there to `show`.

    Nothing limits its time. It ends with this process, and its helpers with it.
    """
    with open_workspace(use_warm=False) as workspace, ProcessHub(workspace) as hub:
        runtime = Runtime(heartbeat_timeout=FOREVER)
        node = _node_of(job)
        process = hub.start(node.config.stage, (), log, NO_CARD)
        session = Session(node, 0, hub, process, runtime, GpuMonitor(), log, job.threads)
        scratch = workspace.folder / "scratch"
        scratch.mkdir()
        conversation = _Conversation(session, job, scratch, progress)
        with log.open("rb") as stream:
            printed = _Printed(stream.read)
            while session.state != "gone":
                # What is read before the wait was printed before whatever the wait tells, so the
                # traceback of a failure that needs none stays in the log.
                text = printed.more()
                for event in hub.wait(min(_SHOW_SECONDS, session.next_deadline() - clock.now())):
                    conversation.hear(session.on_event(event))
                conversation.hear(session.tick())
                if conversation.explains_itself:
                    show(text)
            if conversation.explains_itself:
                show(printed.more())
    return conversation.result()


def _node_of(job: StageJob) -> Node:
    attempt = Attempt.model_validate(
        {"device": "cuda" if job.card else "cpu", "dtype": job.dtype, "tries": 1}
    )
    config = NodeConfig(stage=job.stage, attempts=[attempt], timeout=FOREVER, load_timeout=FOREVER)
    stage = stage_class(job.stage)
    return Node(job.stage, config, stage.version, stage.outputs, {}, dict(job.params), ())


class _Printed:
    """What has been added to a log since the last look, as text."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self._read = read
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")

    def more(self) -> str:
        return self._decoder.decode(self._read())


class _Conversation:
    """What follows from what the process says: load, run, stop."""

    def __init__(self, session: Session, job: StageJob, scratch: Path, progress: Progress) -> None:
        self._session = session
        self._job = job
        self._scratch = scratch
        self._progress = progress
        self._done: tuple[Done, bytes] | None = None
        self._failure: StageFailure | None = None

    @property
    def explains_itself(self) -> bool:
        """Whether what is printed is wanted: a failure of a known kind is told in a sentence."""
        return self._failure is None or self._failure.kind in ("internal", "crashed")

    def hear(self, events: Sequence[SessionEvent]) -> None:
        job, session = self._job, self._session
        for event in events:
            match event:
                case Imported():
                    session.load(job.card)
                case Loaded():
                    inputs = {name: list(paths) for name, paths in job.inputs.items()}
                    session.run(_JOB, inputs, job.output, self._scratch, job.seed)
                case Progressed():
                    self._progress(event.step, event.total, event.note)
                case JobDone():
                    self._done = (event.message, event.contents)
                    session.stop()
                case JobFailed():
                    self._failure = event.failure
                    session.stop()

    def result(self) -> tuple[Done, bytes]:
        if self._failure is not None:
            raise JobFailedError(self._failure)
        if self._done is None:
            raise JobFailedError(StageFailure("internal", "the process ended without a word"))
        return self._done
