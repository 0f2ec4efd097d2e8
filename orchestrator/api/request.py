"""What a worker process is asked to do: plain data, as it travels in one line of JSON."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from orchestrator.commands.carry_out import BatchRequest
from orchestrator.commands.subject import Subject
from orchestrator.planning.options import Options

Task = Literal["run", "candidates", "resume", "batch"]


@dataclass(frozen=True)
class Request:
    """One piece of work.

    run     a new run of `subject` in `output` (None: a new directory in outputs)
    candidates  as many runs of `subject` as `options` say, of as many seeds
    resume  the run or batch directory `output`
    batch   what `folder` says; keep_is_open: nobody said what is to stay of each run
    warm    processes may start warm
    """

    task: Task
    options: Options = field(default_factory=Options)
    subject: Subject | None = None
    output: Path | None = None
    folder: BatchRequest | None = None
    keep_is_open: bool = False
    warm: bool = True

    def line(self) -> bytes:
        """The request in one line of ASCII, in which any name of a file travels."""
        return json.dumps(dataclasses.asdict(self), default=str).encode() + b"\n"

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Request:
        """Inverse of `line`, for the worker: what JSON makes of what its own parent wrote."""
        request: Request = _rebuilt(cls, data)
        return request


def _rebuilt(kind: Any, data: dict[str, Any]) -> Any:
    """A dataclass of what JSON made of it: paths, tuples and dataclasses are themselves again."""
    hints = typing.get_type_hints(kind)
    return kind(**{name: _value(hints[name], value) for name, value in data.items()})


def _value(hint: Any, value: Any) -> Any:
    kinds = [kind for kind in (typing.get_args(hint) or (hint,)) if isinstance(kind, type)]
    if isinstance(value, dict) and typing.get_origin(hint) is Mapping:
        inner = typing.get_args(hint)[1]
        return {name: _value(inner, one) for name, one in value.items()}
    if isinstance(value, dict):
        [kind] = (kind for kind in kinds if dataclasses.is_dataclass(kind))
        return _rebuilt(kind, value)
    if isinstance(value, list):
        return tuple(value)
    return Path(value) if isinstance(value, str) and Path in kinds else value
