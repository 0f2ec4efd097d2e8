"""onnxruntime, which tells nobody of what it is used for; all who use it import it from here.

By itself its import alone leaves an id of this machine in the user's cache, in
Microsoft/DeveloperTools, beside a database of what is to be sent to its makers.
"""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # looked at by the import, and never again

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as errors

__all__ = ["errors", "onnxruntime", "session_options"]


def session_options(threads: int) -> onnxruntime.SessionOptions:
    """Of a session that uses so many threads, and none between two pictures."""
    onnxruntime.disable_telemetry_events()  # it leaves a session id in the temporary folder
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Between two pictures other stages compute; waiting threads must not burn their cores.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options
