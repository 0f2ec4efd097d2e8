"""What a session tells the runner of its process: the few things that move jobs on."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.system.gpu import Release
from stages.contract import FailureKind
from stages.process import protocol


@dataclass(frozen=True)
class StageFailure:
    """Why a job or a load failed."""

    kind: FailureKind
    message: str
    hint: str = ""


@dataclass(frozen=True)
class Imported:
    """The process is there and waits to be told to load."""


@dataclass(frozen=True)
class Loaded:
    """The stage can take jobs."""


@dataclass(frozen=True)
class Progressed:
    job: str
    step: int
    total: int
    note: str


@dataclass(frozen=True)
class Previewed:
    """A picture of the work, held to its sizes."""

    message: protocol.Preview


@dataclass(frozen=True)
class JobDone:
    """A job is computed; contents: what `Part.start` counts in."""

    message: protocol.Done
    contents: bytes


@dataclass(frozen=True)
class JobFailed:
    """A job failed, or with job "" the load did, and with it every job that waits for it."""

    job: str
    failure: StageFailure


@dataclass(frozen=True)
class Gone:
    """The process is reaped, and its memory accounted for."""

    release: Release


SessionEvent = Imported | Loaded | Progressed | Previewed | JobDone | JobFailed | Gone
