"""What an error of torch, or of an extension of it, means."""

from __future__ import annotations

from stages.contract import StageError, failures


def classify(error: RuntimeError, who: str, fall_back: str) -> StageError:
    """Name what a RuntimeError means, as `stages.contract.failures` tells it, and what to do.

    who        the subject of the message, "pytorch3d"
    fall_back  what to do instead, the hint
    """
    text = str(error)
    kind = failures.classify(error).kind
    hint = fall_back
    if "no kernel image" in text.lower():
        hint = f"this {who} was built for other cards; rebuild it for this one, or {fall_back}"
    elif kind == "gpu_unavailable":
        hint = f"this {who} was built without CUDA; install a CUDA build, or {fall_back}"
    first_line = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return StageError(kind, f"{who} failed: {first_line}", hint)
