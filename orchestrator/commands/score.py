"""How near a mesh is to the true one, asked of a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.errors import InputFileError, RunFailedError
from orchestrator.processes.json_child import NoAnswerError, ask
from orchestrator.record.result_folder import RESULT_FILES
from orchestrator.record.run_directory import RESULT
from stages.contract.mesh_formats import READABLE

USUAL = ("--tau", "0.05", "--samples", "30000", "--seed", "0", "--normalize")
"""What `evaluate` takes where nothing else is asked for."""


def score(mesh: Path, truth: Path, options: Sequence[str] = USUAL) -> dict[str, Any]:
    """What `stages.evaluation` answers. Raises InputFileError, RunFailedError."""
    for path, takes in ((mesh, "give"), (truth, "--truth takes")):
        if path.is_dir():
            raise InputFileError(
                f"{path} is a folder",
                f"{takes} a mesh file; a run's is {path / RESULT / RESULT_FILES['glb']}",
            )
        if not path.is_file():
            raise InputFileError(f"{path} does not exist or is no file", "check the path")
        if path.suffix.lower() not in READABLE:
            raise InputFileError(
                f"{path} is no mesh file that can be read", f"{takes} {', '.join(READABLE)}"
            )
    try:
        answer = ask(["-m", "stages.evaluation", *options, "--", str(mesh), str(truth)])
    except NoAnswerError as error:
        raise RunFailedError(
            f"the scoring process failed ({error.how}): {error.last_words or 'it wrote nothing'}",
            "if memory ran out, fewer --samples or a mesh of fewer faces needs less",
        ) from None
    if "error" in answer:
        raise InputFileError(answer["error"], answer["hint"])
    return answer
