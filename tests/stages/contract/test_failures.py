"""An exception is told by its type and errno before its words."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from orchestrator.running.attempts import storage_failure
from stages.contract import ContractError, StageError
from stages.contract.failures import classify


class OutOfMemoryError(RuntimeError):
    """As torch's is called."""


class AcceleratorError(RuntimeError):
    """As torch's is called."""


class LibraryError(Exception):
    """What a library with a base class of its own raises."""


def raised_from(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


CUDA = "CUDA error: an illegal memory access was encountered"
FAULTS = [
    (StageError("missing_weights", "no CUDA error here"), "missing_weights"),
    (ContractError("out of memory"), "internal"),
    (MemoryError("cuDNN"), "out_of_memory"),
    (OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
    (ImportError("libcudnn.so.9: cannot open shared object file"), "missing_dependency"),
    (ModuleNotFoundError("No module named 'cudnn'"), "missing_dependency"),
    (ImportError("out of memory"), "missing_dependency"),
    (OSError("libcublas.so.12: cannot open shared object file"), "missing_dependency"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "out_of_memory"),
    (OSError(errno.ENOMEM, "Cannot allocate memory", "cudnn.bin"), "out_of_memory"),
    (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk_full"),
    (OSError(errno.ENOSPC, "No space left", "cublas/out of memory.npy"), "disk_full"),
    (FileNotFoundError(errno.ENOENT, "No such file", "cublas.json"), "internal"),
    (PermissionError(errno.EACCES, "Permission denied", "/weights/out of memory"), "internal"),
    (ValueError("unknown option cudnn.benchmark"), "internal"),
    (KeyError("cublas"), "internal"),
    (TypeError("CUDA error is no name"), "internal"),
    (RuntimeError(CUDA), "gpu_fault"),
    (AcceleratorError("an error without words that are known"), "gpu_fault"),
    (AcceleratorError("CUDA error: out of memory"), "out_of_memory"),
    (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "gpu_fault"),
    (LibraryError("CUBLAS failure 13"), "gpu_fault"),
    (LibraryError("CUDA failure 2: out of memory"), "out_of_memory"),
    (RuntimeError("Found no NVIDIA driver on your system"), "gpu_unavailable"),
    (RuntimeError("CUDA error: no kernel image is available for execution"), "gpu_unavailable"),
    (AssertionError("Torch not compiled with CUDA enabled"), "gpu_unavailable"),
    (AssertionError("shapes differ"), "internal"),
    (RuntimeError("deliberate"), "internal"),
    (
        raised_from(RuntimeError("Failed to import: libcudnn"), ImportError("libcudnn.so.9")),
        "missing_dependency",
    ),
    (raised_from(RuntimeError("cannot map"), OSError(errno.ENOMEM, "no memory")), "out_of_memory"),
    (raised_from(RuntimeError(CUDA), ValueError("n")), "gpu_fault"),
]


@pytest.mark.parametrize(("error", "kind"), FAULTS, ids=[repr(error) for error, _ in FAULTS])
def test_an_exception_has_the_kind_of_its_type(error, kind):
    failure = classify(error)
    assert failure.kind == kind
    assert failure.fatal == (kind in ("gpu_fault", "gpu_unavailable"))
    if kind != "gpu_fault":
        assert "context is lost" not in failure.hint


def test_a_result_that_cannot_be_written_is_told_by_the_same_rule():
    folder = Path("run/node")
    assert storage_failure(OSError(errno.ENOSPC, "full"), folder).kind == "disk_full"
    assert storage_failure(OSError(errno.ENOMEM, "no memory"), folder).kind == "out_of_memory"
    assert storage_failure(OSError(errno.EACCES, "forbidden"), folder).kind == "internal"
