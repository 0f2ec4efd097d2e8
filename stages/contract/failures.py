"""Give an exception its failure kind (the kinds of stages.contract).

By what it is first: its type, its errno, and those of the exceptions that it was raised from. What
it says is looked at last, and only where the type says nothing: torch and other libraries raise
RuntimeError for everything, but an ImportError that names libcudnn is a package that is missing,
not a GPU that has failed.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from stages.contract.stage import ContractError, FailureKind, StageError

_NO_MODULE = (126, 127)
"""Windows' codes for a library, or a function in one, that was not found."""
_CUDA_FAULTS = ("cuda error", "device-side assert", "illegal memory access", "cublas", "cudnn")
_NO_GPU = (
    "not compiled with gpu support",
    "not compiled with cuda enabled",
    "no cuda gpus are available",
    "found no nvidia driver",
    "no kernel image",  # of this card's architecture
)


@dataclass(frozen=True)
class Failure:
    """What the parent is told. `fatal`: the process must not run another job."""

    kind: FailureKind
    message: str
    hint: str = ""
    fatal: bool = False


def classify(error: BaseException) -> Failure:
    """The failure kind of an exception, with a remedy where one is known.

    Works on class names because the libraries that define the exceptions (torch, pytorch3d) may not
    be importable, which can be the very failure.
    """
    text = f"{type(error).__name__}: {error}"
    for cause in _causes(error):
        if failure := _by_type(cause, text):
            return failure
    if _says_all_by_its_text(error) and (failure := _by_text(text)):
        return failure
    return Failure("internal", text, "the traceback is in the log of this attempt")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, and those that it was raised `from`."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__


def _by_type(error: BaseException, text: str) -> Failure | None:
    """What type and errno tell, or None."""
    if isinstance(error, StageError):
        return Failure(error.kind, error.message, error.hint, error.kind == "gpu_fault")
    if isinstance(error, ContractError):
        return Failure("internal", str(error), "the stage broke its own contract: a bug in it")
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return _out_of_memory(text)
    if isinstance(error, ImportError) or (isinstance(error, OSError) and _no_library(error)):
        return Failure(
            "missing_dependency",
            text,
            "install what is missing; `kiss3d-orchestrate doctor` checks",
        )
    if isinstance(error, OSError) and is_disk_full(error):
        too_long = error.errno == errno.EFBIG
        hint = "raise the limit: ulimit -f unlimited" if too_long else "free disk space"
        return Failure("disk_full", text, hint)
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return _out_of_memory(text)
    if type(error).__name__ == "AcceleratorError" and "out of memory" not in str(error).lower():
        return _gpu_fault(text)
    return None


def _no_library(error: OSError) -> bool:
    """Whether a shared library could not be loaded: the loader's error has no errno."""
    if error.errno is None:
        return "shared object" in str(error) or "image not found" in str(error)
    return getattr(error, "winerror", None) in _NO_MODULE


def _says_all_by_its_text(error: BaseException) -> bool:
    """RuntimeError, AssertionError (torch without CUDA) and libraries' own exceptions; the other
    built-in ones, such as ValueError, mean what they are."""
    if type(error).__module__ == "builtins":
        return isinstance(error, RuntimeError | AssertionError) or type(error) is Exception
    return not isinstance(error, OSError)


def _by_text(text: str) -> Failure | None:
    signs: tuple[tuple[tuple[str, ...], Callable[[str], Failure]], ...] = (
        (_NO_GPU, _no_gpu),
        (("out of memory",), _out_of_memory),
        (_CUDA_FAULTS, _gpu_fault),
    )
    lower = text.lower()
    return next((make(text) for words, make in signs if any(w in lower for w in words)), None)


def _out_of_memory(text: str) -> Failure:
    return Failure(
        "out_of_memory",
        text,
        "close other programs, choose a smaller size, or a lower rung of the ladder",
    )


def _gpu_fault(text: str) -> Failure:
    return Failure("gpu_fault", text, "the CUDA context is lost with this process", fatal=True)


def _no_gpu(text: str) -> Failure:
    return Failure("gpu_unavailable", text, "run `kiss3d-orchestrate doctor`", fatal=True)


def is_disk_full(error: OSError) -> bool:
    """Whether there is no room: on the disk, in the user's quota, or for a file of this size."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
