"""What a worker process says, line by line, and how its errors become the caller's.

{"say": "prepared", ...}   what was decided: profile, nodes and what they are expected to take
{"say": "opened", ...}     the run or batch directory in which work has begun
{"say": "event", ...}      a `RunEvent`
{"say": "outcomes", ...}   the rows of a batch
{"say": "failed", ...}     the error that it ends with; without one it has done what was asked
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orchestrator import errors
from orchestrator.errors import KissError

_PLAIN = (str, int, float, bool, list, dict, type(None))


def line(kind: str, /, **fields: Any) -> bytes:
    return json.dumps({"say": kind, **fields}, default=str).encode() + b"\n"


def error_fields(error: KissError) -> dict[str, Any]:
    """An error with its facts, as data; of a kind that no caller knows, as the one above it."""
    facts = {
        name: value if isinstance(value, _PLAIN) else str(value)
        for name, value in vars(error).items()
    }
    known = next(kind for kind in type(error).__mro__ if kind.__module__ == errors.__name__)
    return {"type": known.__name__, "facts": {**facts, "exit_code": error.exit_code}}


def error_from(fields: Mapping[str, Any]) -> KissError:
    """The same error here, of the same class of `orchestrator.errors`."""
    found = getattr(errors, str(fields["type"]), KissError)
    kind = found if isinstance(found, type) and issubclass(found, KissError) else KissError
    facts = dict(fields["facts"])
    error = kind.__new__(kind, facts["message"])  # each class has an `__init__` of its own
    error.__dict__.update(facts)
    return error
