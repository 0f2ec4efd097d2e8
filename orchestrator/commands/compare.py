"""`compare`: a page with several runs side by side."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from orchestrator.commands.score import score
from orchestrator.errors import OutputError, UsageError
from orchestrator.record.result_folder import RESULT_FILES
from orchestrator.record.run_directory import RESULT, RunDirectory
from orchestrator.report import page
from orchestrator.report.comparison import Side, comparison_html
from orchestrator.system.atomic_files import write_atomic
from orchestrator.system.locks import as_output_error
from orchestrator.system.text import printable, slug

MOST_RUNS = 12
"""Browsers draw 16 3D views in one page, and then forget the oldest."""


def compare(paths: Sequence[Path], truth: Path | None, output: Path | None) -> Path:
    """Write the page, and return its path.

    output: a file that is missing, or was made by this. None: a new one in the current folder.
    Raises `UsageError`, `RunRecordError`, `InputFileError`, `RunFailedError` or `OutputError`.
    """
    if not 2 <= len(paths) <= MOST_RUNS:
        raise UsageError(
            f"{len(paths)} run{'s' if len(paths) > 1 else ''} cannot be compared",
            f"name 2 to {MOST_RUNS} run directories",
        )
    runs = [RunDirectory.open(path) for path in paths]
    if output is not None:
        _require_ours(output)
    sides = [Side(run, _scores(run, truth) if truth else {}) for run in runs]
    content = comparison_html(sides, printable(Path(truth.name)) if truth else "")
    target = output or _unused_name(paths)
    with as_output_error(target):
        write_atomic(target, content)
    return target


def _scores(run: RunDirectory, truth: Path) -> dict[str, float]:
    """The run's scores, none where it has no mesh. Raises as `score`."""
    mesh = run.path / RESULT / RESULT_FILES["glb"]
    if not mesh.is_file():
        return {}
    found: dict[str, float] = score(mesh, truth)["scores"]
    return found


def _require_ours(output: Path) -> None:
    """Raises `OutputError` where a file lies that this program did not write."""
    try:
        with output.open("rb") as stream:
            ours = page.is_ours(stream.read(1024))
    except FileNotFoundError:
        return
    except OSError as error:
        raise OutputError(f"cannot write to {output}: {error.strerror or error}") from error
    if not ours:
        raise OutputError(
            f"{output} is there, and is no page of this program", "choose another --output"
        )


def _unused_name(paths: Sequence[Path]) -> Path:
    """compare-A-B.html in the current folder, with a number behind it where that is taken."""
    names = [slug(path.resolve().name)[:40] for path in paths[:3]]
    stem = "-".join(["compare", *names, *(["more"] if len(paths) > 3 else [])])
    numbered = (f"-{number}" for number in itertools.count(2))
    return next(
        path
        for suffix in itertools.chain([""], numbered)
        if not (path := Path(f"{stem}{suffix}.html")).exists()
    )
