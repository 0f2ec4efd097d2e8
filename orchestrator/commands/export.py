"""`export`: a run's mesh, or a file, in other formats; and what `run --format` asked for.

The work is done in a process of its own, in a private folder. Only when all files are there are
they put in their place, where nothing of somebody else's is written over.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.commands import batch_directory
from orchestrator.errors import (
    InputFileError,
    KissError,
    OutputError,
    RunFailedError,
    UsageError,
    command,
)
from orchestrator.planning.formats import require_formats
from orchestrator.processes.json_child import NoAnswerError, ask
from orchestrator.record.result_folder import RESULT_FILES
from orchestrator.record.run_directory import RESULT, RunDirectory
from orchestrator.system.folders import make_folders
from orchestrator.system.inside import Inside
from orchestrator.system.locks import as_output_error
from orchestrator.system.private_folders import private_folder
from orchestrator.system.text import slug
from stages.contract.mesh_formats import READABLE, USUAL

STEM = "mesh"
"""Files of a run are called that."""
_FULL = "full_mesh"


@dataclass(frozen=True)
class Request:
    """What is wanted of a mesh.

    formats  names in `stages.contract.mesh_formats`
    height   metres along the up axis, or None
    faces    no more than these, or None
    y_up     STL and 3MF keep y up
    """

    formats: Sequence[str]
    height: float | None = None
    faces: int | None = None
    y_up: bool = False

    @property
    def changes_the_mesh(self) -> bool:
        return self.height is not None or self.faces is not None


@dataclass(frozen=True)
class Exported:
    """files: {"path", "format", "bytes"} of each, with "faces", "size" and "unit" of a mesh; notes:
    what was mended, or could not be kept."""

    files: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def export(source: Path, output: Path | None, request: Request) -> Exported:
    """Write `source`, a run directory or a mesh file, in other formats.

    output: a folder; None: the run's result/, or the current folder for a file. Raises
    `UsageError`s before anything is written, `RunFailedError` for a mesh that cannot be exported
    so.
    """
    require_formats(request.formats)
    if not source.is_dir():
        return _export_file(source, output or Path(), request)
    if batch_directory.is_batch(source):
        raise UsageError(f"{source} is a batch", "name the directory of one of its pictures")
    run = RunDirectory.open(source)
    if output is not None:
        mesh, fine = _meshes_of(run)
        return _into_folder(mesh, fine, output, STEM, request)
    usual = [f"{STEM}.{name}" for name in request.formats if name in USUAL]
    if usual and request.changes_the_mesh:
        raise OutputError(
            f"{source / RESULT} keeps {' and '.join(usual)} as the run made it",
            "choose a folder for a changed one with --output",
        )
    with run.locked():
        _meshes_of(run)
        return _into_run(run, request)


def complete(run: RunDirectory) -> None:
    """Write the files that were asked for with a run that is done; its manifest says why not.

    The caller holds its lock.
    """
    manifest = run.manifest
    if manifest.state != "done" or not manifest.formats:
        return
    try:
        require_formats(manifest.formats)
        _meshes_of(run)
        _into_run(run, Request(manifest.formats))
    except (KissError, OSError) as error:
        why = str(error).partition("\n")[0]
        manifest.no_export = f"no {', '.join(manifest.formats)}: {why}"
        run.event("no export", error=manifest.no_export)
    with contextlib.suppress(OSError):
        run.save()


def _export_file(source: Path, folder: Path, request: Request) -> Exported:
    if not source.is_file():
        raise InputFileError(
            f"{source} does not exist or is no file", "name a run directory or a mesh file"
        )
    if source.suffix.lower() not in READABLE:
        raise InputFileError(
            f"{source} is no mesh file that can be read", f"give {', '.join(READABLE)}"
        )
    return _into_folder(source, None, folder, slug(source.stem), request)


def _meshes_of(run: RunDirectory) -> tuple[Path, Path | None]:
    """result/mesh.glb, and the fine mesh where the run has one. Raises `InputFileError`."""
    found = {}
    for artifact in ("glb", _FULL):
        name = f"{RESULT}/{RESULT_FILES[artifact]}"
        with as_output_error(run.path / name):
            run.inside.check(name)
        if (run.path / name).is_file():
            found[artifact] = run.path / name
    if "glb" not in found:
        raise InputFileError(f"{run.path} has no mesh", _way_to_a_mesh(run))
    return found["glb"], found.get(_FULL)


def _way_to_a_mesh(run: RunDirectory) -> str:
    """A run that ends where it was told to has nothing to resume."""
    if run.manifest.state != "done":
        return command("resume", run.path)
    source = run.manifest.input.source or "FILE"
    return f"it was made without one: {command('run', source, '--output', run.path)} goes on to it"


def _into_run(run: RunDirectory, request: Request) -> Exported:
    """Into result/, on record before they are there. What the run has is not made again."""
    mesh, fine = _meshes_of(run)
    result = run.path / RESULT
    done = [
        {"path": str(result / f"{STEM}.{name}"), "format": name, "bytes": path.stat().st_size}
        for name in request.formats
        if name in USUAL and (path := result / f"{STEM}.{name}").is_file()
    ]
    made = [name for name in request.formats if name not in {row["format"] for row in done}]
    if not made:
        return Exported(done)
    ours = set(run.manifest.exports)
    _require_free(result, [name for name in _names(made, STEM) if name not in ours])
    with _made(mesh, fine, STEM, made, request) as (folder, answer):
        names = [row["name"] for row in answer["files"]]
        with as_output_error(result):
            run.manifest.exports = sorted({*ours, *names})
            gone = run.manifest.former_exports
            run.manifest.former_exports = [name for name in gone if name not in names]
            run.save()
            _place(folder, names, run.inside, RESULT)
    return _told(answer, result, done)


def _into_folder(
    mesh: Path, fine: Path | None, folder: Path, stem: str, request: Request
) -> Exported:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is no folder", "choose another --output")
    _require_free(folder, _names(request.formats, stem))
    with _made(mesh, fine, stem, request.formats, request) as (made, answer):
        names = [row["name"] for row in answer["files"]]
        _require_free(folder, names)
        with as_output_error(folder):
            new = make_folders(folder)
            try:
                _place(made, names, Inside(folder))
            except OSError:
                for empty in new:
                    with contextlib.suppress(OSError):
                        empty.rmdir()
                raise
    return _told(answer, folder)


def _names(formats: Sequence[str], stem: str) -> list[str]:
    """All that may be written."""
    names = [f"{stem}.{name}" for name in formats]
    if "obj" in formats:
        names += [f"{stem}.mtl", f"{stem}_color.png", f"{stem}_normal.png"]
    return names


def _require_free(folder: Path, names: Sequence[str]) -> None:
    """Raises `OutputError` where something has one of the names already."""
    for name in names:
        if (folder / name).is_symlink() or (folder / name).exists():
            raise OutputError(
                f"{folder / name} is there already, and is not written over",
                "choose another folder with --output, or delete the file",
            )


@contextlib.contextmanager
def _made(
    mesh: Path, fine: Path | None, stem: str, formats: Sequence[str], request: Request
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The files in a private folder, and what the process that made them says of them."""
    with private_folder() as private:
        folder = private / "export"
        folder.mkdir()
        arguments = ["--formats", ",".join(formats), "--stem", stem, "--into", str(folder)]
        if request.height is not None:
            arguments += ["--height", repr(request.height)]
        if request.faces is not None:
            arguments += ["--faces", str(request.faces)]
        arguments += ["--y-up"] if request.y_up else []
        arguments += ["--fine", str(fine)] if fine else []
        try:
            answer = ask(["-m", "stages.export", *arguments, "--", str(mesh)])
        except NoAnswerError as error:
            raise RunFailedError(
                f"{mesh}: the exporting process failed ({error.how}): "
                f"{error.last_words or 'it wrote nothing'}",
                "if memory ran out, ask for fewer --faces",
            ) from None
        if "error" in answer:
            failed = InputFileError if answer["status"] == 2 else RunFailedError
            raise failed(answer["error"], answer["hint"])
        yield folder, answer


def _place(made: Path, names: Sequence[str], inside: Inside, folder: str = "") -> None:
    """Copy the files to their place: all, or none where one fails. Raises OSError."""
    placed = []
    try:
        for name in names:
            target = f"{folder}/{name}" if folder else name
            with (made / name).open("rb") as source:
                inside.copy(source, target, durable=True)
            placed.append(target)
    except BaseException:
        for target in placed:
            with contextlib.suppress(OSError):
                inside.remove(target)
        raise


def _told(answer: dict[str, Any], folder: Path, first: Sequence[dict[str, Any]] = ()) -> Exported:
    rows = [
        {"path": str(folder / row["name"]), **{k: v for k, v in row.items() if k != "name"}}
        for row in answer["files"]
    ]
    return Exported([*first, *rows], list(answer["notes"]))
