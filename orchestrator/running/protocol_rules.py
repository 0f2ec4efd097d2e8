"""What a stage process may say when, and what a message of it must be about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, get_args

from orchestrator.record import stage_pictures
from stages.contract import FailureKind
from stages.process import protocol

State = Literal[
    "starting", "imported", "loading", "idle", "running", "stopping", "measuring", "gone"
]
_KINDS = get_args(FailureKind)
EXPECTED: Final[Mapping[tuple[State, type[protocol.Message]], State]] = {
    ("starting", protocol.Hello): "imported",
    ("imported", protocol.Heartbeat): "imported",
    ("loading", protocol.Heartbeat): "loading",
    ("loading", protocol.Ready): "idle",
    ("loading", protocol.Failed): "stopping",
    ("idle", protocol.Heartbeat): "idle",
    ("running", protocol.Heartbeat): "running",
    ("running", protocol.Progress): "running",
    ("running", protocol.Preview): "running",
    ("running", protocol.Done): "idle",
    ("running", protocol.Failed): "idle",
}
"""What a process may say in which state, and the state that follows (after a failure that is fatal:
stopping). One that is being ended may say anything: nobody listens."""


def what_is_wrong(
    message: protocol.Message, following: State | None, stage: str, job: str, previews: int
) -> str:
    """What is wrong with a message, as the end of a sentence; "" for one that is expected.

    following: what `EXPECTED` says of it. stage, job: what the process is there for. previews: how
    many pictures it may still show.
    """
    if following is None:
        return "that is not expected"
    if isinstance(message, protocol.Hello):
        if message.protocol != protocol.VERSION:
            return f"of protocol {message.protocol} to the parent of {protocol.VERSION}"
        if message.stage != stage:
            return f"of another stage, {message.stage!r:.80}"
    elif isinstance(
        message, protocol.Progress | protocol.Preview | protocol.Done | protocol.Failed
    ):
        if message.job != job:
            return f"of another job, {message.job!r:.80}"
        if isinstance(message, protocol.Preview):
            unasked = "that nobody asked for" if previews < 1 else ""
            return unasked or stage_pictures.what_is_wrong(message)
        if isinstance(message, protocol.Failed) and message.kind not in _KINDS:
            return f"of an unknown kind, {message.kind!r:.80}"
    return ""
