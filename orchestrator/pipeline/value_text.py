"""A setting's value as people read it."""

from __future__ import annotations

from typing import Any

from orchestrator.pipeline.profile import Attempt


def value_text(value: Any) -> str:
    """A ladder as its rungs in words, a text as it is, all else as Python writes it."""
    if isinstance(value, list) and value and isinstance(value[0], dict) and "device" in value[0]:
        return " -> ".join(str(Attempt.model_validate(rung)) for rung in value)
    return value if isinstance(value, str) and value else repr(value)
