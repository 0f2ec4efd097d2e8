"""`models convert` from the parent's side: which files, and a child for each, as it needs torch."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from orchestrator.errors import InputFileError, KissError, OutputError, UsageError
from orchestrator.processes.json_child import NoAnswerError, ask
from orchestrator.weights import needs
from stages.weights import catalogue


class ConversionError(KissError):
    """A checkpoint cannot be converted."""


def files_of(name: str) -> list[Path]:
    """The pickled checkpoints of a model that is here, or the one that `name` is the path of.

    Raises `UsageError`s: unknown, missing, or nothing to convert.
    """
    if Path(name).is_file():
        if Path(name).suffix not in catalogue.PICKLED:
            raise InputFileError(
                f"{name} is no checkpoint to convert", f"suffixes: {', '.join(catalogue.PICKLED)}"
            )
        return [Path(name)]
    [model] = needs.select([name])
    folder = catalogue.locate(name)
    if folder is None:
        raise needs.missing_error([needs.Missing(name, (), model)])
    files = [folder / file for file in catalogue.files(model, folder)]
    pickled = [file for file in files if file.suffix in catalogue.PICKLED]
    if not pickled:
        raise UsageError(f"{name} has no file to convert", f"{folder} is in .safetensors already")
    return pickled


def convert_file(path: Path) -> dict[str, Any]:
    """{"source", "file", "tensors"} of the new file. Raises `ConversionError`, `OutputError`."""
    size, free = path.stat().st_size, shutil.disk_usage(path.parent).free
    if size > free:
        raise OutputError(
            f"converting {path} needs {size / 1e9:.1f} GB in its folder, which has "
            f"{free / 1e9:.1f} GB free",
            "free space",
        )
    try:
        answer = ask(["-m", "stages.weights.convert", str(path)])
    except NoAnswerError as error:
        why = error.last_words or error.how
        raise ConversionError(f"{path}: the conversion failed: {why}") from None
    if "error" in answer:
        raise ConversionError(answer["error"], answer["hint"])
    return {"source": str(path), **answer}
