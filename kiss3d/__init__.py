"""Pictures into textured 3D meshes, from Python.

    import kiss3d

    run = kiss3d.run("img.png", profile="sketch")
    run.mesh.show()

`run` returns when it is done, `start` at once; `batch`, `merge`, `candidates`, `resume`, `plan` and
`doctor` are what the command line's are. Errors are `KissError`s. docs/python.md shows more.
"""

from orchestrator import __version__
from orchestrator.api.calls import (
    batch,
    candidates,
    doctor,
    merge,
    options,
    plan,
    resume,
    run,
    start,
)
from orchestrator.api.runs import Batch, Run
from orchestrator.commands.plans import Plan
from orchestrator.errors import (
    InterruptedRunError,
    KissError,
    MissingWeightsError,
    RunFailedError,
    RunLockedError,
    RunRecordError,
    UsageError,
)
from orchestrator.running.run_events import RunEvent

__all__ = [
    "Batch",
    "InterruptedRunError",
    "KissError",
    "MissingWeightsError",
    "Plan",
    "Run",
    "RunEvent",
    "RunFailedError",
    "RunLockedError",
    "RunRecordError",
    "UsageError",
    "__version__",
    "batch",
    "candidates",
    "doctor",
    "merge",
    "options",
    "plan",
    "resume",
    "run",
    "start",
]
