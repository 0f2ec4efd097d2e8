"""`models convert` from the parent's side: which files, and a child for each, as it needs torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from orchestrator import models
from orchestrator.errors import InputFileError, KissError, OutputError, UsageError
from orchestrator.exits import describe_exit
from orchestrator.warm import child_environment
from stages import weights


class ConversionError(KissError):
    """A checkpoint cannot be converted."""


def files_of(name: str) -> list[Path]:
    """The pickled checkpoints of a model that is here, or the one that `name` is the path of.

    Raises `UsageError`s: unknown, missing, or nothing to convert.
    """
    if Path(name).is_file():
        if Path(name).suffix not in weights.PICKLED:
            raise InputFileError(
                f"{name} is no checkpoint to convert", f"suffixes: {', '.join(weights.PICKLED)}"
            )
        return [Path(name)]
    [model] = models.select([name])
    folder = weights.locate(name)
    if folder is None:
        raise models.missing_error([models.Missing(name, (), model)])
    files = [folder / file for file in weights.files(model, folder)]
    pickled = [file for file in files if file.suffix in weights.PICKLED]
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
    done = subprocess.run(
        [sys.executable, "-P", "-m", "stages.common.convert", str(path)],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    try:
        answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or [describe_exit(done.returncode)])[-1]
        raise ConversionError(f"{path}: the conversion failed: {last}") from None
    if "error" in answer:
        raise ConversionError(answer["error"], answer["hint"])
    return {"source": str(path), **answer}
