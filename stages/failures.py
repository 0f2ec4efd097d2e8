"""Give an exception that a stage raised its failure kind (the kinds of stages.contract)."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.files import is_disk_full
from stages.contract import ContractError, FailureKind, StageError

_CUDA_FAULTS = ("cuda error", "device-side assert", "illegal memory access", "cublas", "cudnn")
_NO_GPU = ("not compiled with gpu support", "no cuda gpus are available", "found no nvidia driver")


@dataclass(frozen=True)
class Failure:
    """What the parent is told. `fatal`: the process must not run another job."""

    kind: FailureKind
    message: str
    hint: str = ""
    fatal: bool = False


def classify(error: BaseException) -> Failure:
    """The failure kind of an exception, with a remedy where one is known.

    Works on messages and class names because the libraries that define the exceptions (torch,
    pytorch3d) may not be importable, which can be the very failure.
    """
    text = f"{type(error).__name__}: {error}"
    lower = text.lower()
    if isinstance(error, StageError):
        return Failure(error.kind, error.message, error.hint, error.kind == "gpu_fault")
    if isinstance(error, ContractError):
        return Failure("internal", str(error), "the stage broke its own contract: a bug in it")
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return Failure(
            "out_of_memory", text, "close other programs, or choose smaller sizes in the profile"
        )
    if isinstance(error, OSError) and is_disk_full(error):
        return Failure("disk_full", text, "free disk space")
    if any(sign in lower for sign in _NO_GPU):
        return Failure("gpu_unavailable", text, "run `kiss3d-orchestrate doctor`", fatal=True)
    if "out of memory" in lower:
        return Failure(
            "out_of_memory", text, "choose a smaller size, or a lower rung of the ladder"
        )
    if any(sign in lower for sign in _CUDA_FAULTS):
        return Failure("gpu_fault", text, "the CUDA context is lost with this process", fatal=True)
    if isinstance(error, ImportError):
        return Failure(
            "missing_dependency",
            text,
            "install what is missing; `kiss3d-orchestrate doctor` checks",
        )
    return Failure("internal", text, "the traceback is in the log of this attempt")
