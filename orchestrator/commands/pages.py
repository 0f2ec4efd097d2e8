"""Pages of runs and batches: written at the end of each, and made later for those without one.

A run never fails for its page: a full disk, a strange file or a fault of the page's own code costs
the page, and the terminal says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.commands import batch_directory, shards
from orchestrator.commands.subject import Subject
from orchestrator.errors import KissError
from orchestrator.record.manifest import Manifest
from orchestrator.record.result_folder import INDEX_HTML, REPORT_HTML
from orchestrator.record.run_directory import RESULT, RunDirectory
from orchestrator.system.inside import Inside
from orchestrator.system.locks import as_output_error, directory_lock
from orchestrator.system.stop_signals import STOP
from orchestrator.system.text import printable

if TYPE_CHECKING:
    from orchestrator.report.gallery import Entry


def write(run: RunDirectory) -> None:
    """Write a run's page; what went wrong stands in its manifest. Not while the user waits for the
    program to stop: `open` makes the page then."""
    if STOP.count or not (run.path / RESULT).is_dir():
        return
    try:
        from orchestrator.report.run_page import write_report

        write_report(run)
        run.manifest.no_report = ""
    except Exception as error:  # noqa: BLE001 (whatever it is, the run is done)
        run.manifest.no_report = _why(error)
        run.event("no report", error=run.manifest.no_report)


def is_missing(run: RunDirectory) -> bool:
    """Whether a run has no page yet, and nothing is known that speaks against one."""
    return not run.manifest.no_report and not (run.path / RESULT / REPORT_HTML).is_file()


def all_measured(manifest: Manifest) -> bool:
    """Whether it is known of each process that it gave its card's memory back."""
    return all(row.vram for node in manifest.nodes.values() for row in node.attempts)


def write_index(
    path: Path,
    ends: Iterable[tuple[str, Subject, RunDirectory | None, str]],
    headings: Mapping[str, str] | None = None,
) -> None:
    """Write a batch's index.html, unless something goes wrong. The caller holds the batch's lock.

    ends: (name, subject, run, error) of each. headings: name -> what its card is headed with, where
    that is not its input. What went wrong is said by `open`, which tries again.
    """
    with contextlib.suppress(Exception):
        from orchestrator.report.gallery import Entry, write_gallery

        entries = [
            Entry(name, (headings or {}).get(name) or _title(subject), run, error)
            for name, subject, run, error in ends
        ]
        write_gallery(Inside(path), entries)


def page_of(path: Path) -> Path:
    """The page of a run or batch directory, which is made where it has none.

    Raises `RunRecordError`, `RunLockedError` or `OutputError`.
    """
    if batch_directory.is_batch(path) or shards.is_sharded(path):
        page = path / INDEX_HTML
        if not page.is_file():
            _make_index(path)
        return page
    run = RunDirectory.open(path)
    page = path / RESULT / REPORT_HTML
    if not page.is_file():
        from orchestrator.report.run_page import write_report

        with run.locked(), as_output_error(path):
            write_report(run)
    return page


def index_html(path: Path) -> bytes:
    """The page of a batch directory as it is now; nothing is written. Raises `RunRecordError`."""
    from orchestrator.report.gallery import card, gallery_html

    return gallery_html(path.name, [card(one) for one in _entries(path)])


def _make_index(path: Path) -> None:
    from orchestrator.report.gallery import write_gallery

    entries = _entries(path)
    with directory_lock(path), as_output_error(path):
        write_gallery(Inside(path), entries)


def _title(subject: Subject) -> str:
    """What a card is headed with: the file's name, or the words."""
    return printable(Path(subject.source.name)) if subject.source else subject.title


def _entries(path: Path) -> list[Entry]:
    """All jobs of a batch, or of the shards in a directory. Raises `RunRecordError`."""
    whole = shards.load(path).whole if shards.is_sharded(path) else batch_directory.load(path)
    return [
        _entry(path, place.relative_to(path).as_posix(), whole.jobs[name])
        for name, place in shards.places(path).items()
    ]


def _entry(path: Path, name: str, subject: Subject) -> Entry:
    """A job of a batch, as its run's record has it. name: of its directory, below the batch's"""
    from orchestrator.report.gallery import Entry

    try:
        run = RunDirectory.open(path / name)
    except KissError as error:
        return Entry(name, _title(subject), None, error.message)
    return Entry(name, _title(subject), run, run.manifest.error)


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return f"{type(error).__name__}: {error}"
