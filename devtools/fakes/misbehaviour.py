"""The ways in which a stage can go wrong, each on purpose."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from stages.contract import BadInput, Context

Mode = Literal[
    "ok",
    "sleep",
    "raise",
    "bad_input",
    "segfault",
    "exit0",
    "exit3",
    "ignore_sigterm",
    "hang",
    "garbage",
    "wrong_shape",
    "wrong_dtype",
    "missing_output",
    "surplus_output",
    "no_mapping",
    "half_written",
    "oom",
    "killed",
    "disk_full",
    "gpu_fault",
    "no_gpu_support",
    "import_error",
    "nan",
    "print",
    "grandchild",
    "helper",
    "load_raise",
    "load_segfault",
    "load_hang",
    "escape",
    "only_cuda",
]

HELPERS = 3


def start_helpers(pids: Path) -> None:
    """A child, one in a session of its own, and one that also left its parent and environment."""
    sleeps = f"echo $$ >> '{pids}'; exec sleep 3602"
    subprocess.Popen(["/bin/sh", "-c", sleeps])
    subprocess.Popen(["/bin/sh", "-c", sleeps], start_new_session=True)
    daemon = ["/bin/sh", "-c", f'setsid /bin/sh -c "{sleeps.replace("$$", chr(92) + "$$")}" &']
    subprocess.Popen(daemon, env={"PATH": os.environ["PATH"]}, start_new_session=True).wait()
    while not pids.is_file() or len(pids.read_text().split()) < HELPERS:
        time.sleep(0.01)


def wait_with_a_grandchild() -> None:
    subprocess.Popen(["sleep", "3600"])
    time.sleep(3600)


def leave_a_helper() -> None:
    subprocess.Popen(["sleep", "3601"])


def misbehave(mode: str, context: Context) -> Any:
    """Do what `mode` says; a returned mapping or list is what run() returns."""
    import numpy as np

    actions: dict[str, Callable[[], Any]] = {
        "sleep": lambda: time.sleep(3600),
        "raise": lambda: fail(RuntimeError("deliberate")),
        "bad_input": lambda: fail(BadInput("these numbers are unlucky", "try others")),
        "segfault": lambda: ctypes.string_at(0),
        "exit0": lambda: os._exit(0),
        "exit3": lambda: os._exit(3),
        "ignore_sigterm": ignore_sigterm,
        "hang": lambda: ctypes.PyDLL(None).sleep(3600),  # holds the GIL: heartbeats stop
        "garbage": send_garbage,
        "wrong_shape": lambda: {"troubled": np.zeros((2, 2), np.float32)},
        "wrong_dtype": lambda: {"troubled": np.zeros(3, np.float64)},
        "missing_output": dict,
        "surplus_output": lambda: {"troubled": np.zeros(3, np.float32), "more": "?"},
        "no_mapping": lambda: [np.zeros(3, np.float32)],
        "nan": lambda: {"troubled": np.full(3, np.nan, np.float32)},
        "half_written": half_written,
        "oom": lambda: fail(MemoryError("cannot allocate")),
        "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "disk_full": lambda: fail(OSError(errno.ENOSPC, "No space left on device")),
        "gpu_fault": lambda: fail(RuntimeError("CUDA error: an illegal memory access")),
        "no_gpu_support": lambda: fail(RuntimeError("Not compiled with GPU support")),
        "import_error": lambda: fail(ImportError("libcudart.so: cannot open shared object")),
        "print": lambda: sys.stdout.buffer.write(os.urandom(100_000)) and None,
        "grandchild": wait_with_a_grandchild,
        "helper": leave_a_helper,
        "escape": escape,
        "ok": lambda: None,
    }
    found = actions[mode]()
    return found if isinstance(found, dict | list) else None


def fail(error: BaseException) -> None:
    raise error


def ignore_sigterm() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(3600)


def send_garbage() -> None:
    from stages.process import protocol

    protocol.encode = lambda message: b"\xc1\xff garbage"


def half_written() -> None:
    """Dies in the middle of writing a large output."""
    import stages.contract.codec

    def write(stream: Any, payload: Any) -> None:
        stream.write(b"\x93NUMPY half")
        stream.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    stages.contract.codec.write_payload = write
    import stages.process.stage_runner

    stages.process.stage_runner.StageRunner._output_file.__globals__["codec"].payload_size = (
        lambda payload: 1 << 40
    )


def escape() -> None:
    """Tries to have the parent write outside the node's folder."""
    import stages.process.stage_runner

    core: Any = stages.process.stage_runner.StageRunner
    original = core._write

    def write(self: Any, *arguments: Any) -> Any:
        files = original(self, *arguments)
        for entries in files.values():
            entries[0] = type(entries[0])("../../escaped.npy", entries[0].size, entries[0].content)
        return files

    core._write = write
