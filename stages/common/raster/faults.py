"""What an error of torch, or of an extension of it, means."""

from __future__ import annotations

from stages.contract import FailureKind, StageError


def classify(error: RuntimeError, who: str, fall_back: str) -> StageError:
    """Name what a RuntimeError means.

    who        the subject of the message, "pytorch3d"
    fall_back  what to do instead, the hint
    """
    text = str(error)
    lowered = text.lower()
    kind: FailureKind
    hint = fall_back
    if "not compiled with gpu support" in lowered:
        kind = "gpu_unavailable"
        hint = f"this {who} was built without CUDA; install a CUDA build, or {fall_back}"
    elif "out of memory" in lowered:
        kind = "out_of_memory"
    elif "no kernel image" in lowered:
        kind = "gpu_unavailable"
        hint = f"this {who} was built for other cards; rebuild it for this one, or {fall_back}"
    elif "cuda" in lowered or "cublas" in lowered:
        kind = "gpu_fault"
    else:
        kind = "internal"
    first_line = text.strip().splitlines()[0] if text.strip() else type(error).__name__
    return StageError(kind, f"{who} failed: {first_line}", hint)
