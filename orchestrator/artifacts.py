"""The run directory: the complete, resumable record of one run.

    <run>/run.json            manifest (atomic, fsync)
    <run>/events.jsonl        what happened, in order
    <run>/input.<suffix>      the picture as given
    <run>/mask.<suffix>       the user's own mask of it, if there is one
    <run>/<node>/             artifacts, previews, attempt-N.log
    <run>/result/             mesh.glb, mesh.obj, bundle.png, preview.png

An artifact counts only when the manifest lists it, and the manifest lists one that was computed
only after its files are fsynced and renamed. A copy from another run is not fsynced: whoever takes
it over later holds it to its digest, as all of them.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import ValidationError

from orchestrator.errors import (
    NewerRecordError,
    OutputError,
    ProtocolError,
    RunLockedError,
    RunRecordError,
    command,
)
from orchestrator.files import (
    digest_file,
    sync_and_digest,
    sync_folder,
    valid_text,
    write_atomic,
    write_json,
)
from orchestrator.manifest import FORMAT, FileRecord, InputRecord, Manifest
from orchestrator.protocol import Part
from stages.common import codec
from stages.contract import ArtifactSpec

MANIFEST = "run.json"
EVENTS = "events.jsonl"
BATCH_FILE = "batch.json"
LOCK = ".lock"
RESULT = "result"
MASK = "input_mask"
"""Artifact that the user's own mask is."""


class RunDirectory:
    """One run on disk. `locked()` must be held while anything is written."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest

    @classmethod
    def create(
        cls, path: Path, manifest: Manifest, picture: bytes, mask: bytes = b""
    ) -> RunDirectory:
        """A new run in an empty or missing directory. Raises `OutputError`."""
        with as_output_error(path):
            path.mkdir(parents=True, exist_ok=True)
            write_atomic(path / manifest.input.file, picture)
            if manifest.mask is not None:
                write_atomic(path / manifest.mask.file, mask)
            run = cls(path, manifest)
            run.save()
        return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run. Raises `RunRecordError`."""
        file = path / MANIFEST
        if not file.is_file():
            if (path / EVENTS).is_file():
                raise RunRecordError(f"{file} is gone", _way_on(path))
            if not path.exists():
                raise RunRecordError(f"{path} does not exist", "check the path")
            raise RunRecordError(f"{path} holds no run", "`kiss3d-orchestrate runs list` shows all")
        try:
            manifest = Manifest.model_validate_json(file.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            what = f"{where} {first['msg']}".strip()
            raise RunRecordError(f"{file} cannot be read: {what}", _way_on(path)) from error
        except OSError as error:
            what = error.strerror or str(error)
            raise RunRecordError(f"{file} cannot be read: {what}", _way_on(path)) from error
        if manifest.format > FORMAT:
            raise NewerRecordError(
                f"{file} was written by a newer version ({manifest.version})",
                "upgrade, or run the picture anew",
            )
        return cls(path, manifest)

    @contextlib.contextmanager
    def locked(self) -> Iterator[RunDirectory]:
        """Be the only process that works here. Raises `RunLockedError`.

        The manifest is read again under the lock: another process may just have changed it.
        """
        with run_lock(self.path):
            self.manifest = RunDirectory.open(self.path).manifest
            self.discard_partial()
            yield self

    def check_input(self) -> None:
        """Hold the run's copies of picture and mask to their digests. Raises `RunRecordError`."""
        for record in filter(None, (self.manifest.input, self.manifest.mask)):
            path = self.path.resolve() / record.file
            try:
                same = digest_file(path) == record.digest
            except OSError as error:
                raise RunRecordError(
                    f"{path} cannot be read: {error.strerror or error}", "run the picture anew"
                ) from error
            if not same:
                raise RunRecordError(f"{path} was changed since the run began", "run it anew")

    def save(self) -> None:
        """Write run.json. Raises OSError when the disk is full."""
        write_json(self.path / MANIFEST, valid_text(self.manifest.model_dump(mode="json")))

    def event(self, kind: str, /, **fields: Any) -> None:
        """Append one line to events.jsonl; a full disk must not end the run here."""
        line = json.dumps({"time": round(time.time(), 4), "event": kind, **fields}, default=str)
        with contextlib.suppress(OSError), (self.path / EVENTS).open("a", encoding="utf-8") as log:
            log.write(line + "\n")

    def node_folder(self, node: str) -> Path:
        folder = self.path / node
        folder.mkdir(exist_ok=True)
        return folder

    def artifact_paths(self, node: str, artifact: str) -> list[Path]:
        """Absolute paths of an artifact's files, previews left out."""
        records = self.manifest.nodes[node].artifacts[artifact]
        folder = (self.path / node).resolve()
        return [folder / r.file for r in records]

    @property
    def input_path(self) -> Path:
        return self.path.resolve() / self.manifest.input.file

    def given(self, artifact: str) -> InputRecord | None:
        """What the user gave under the name of an artifact; None: nothing."""
        return self.manifest.mask if artifact == MASK else self.manifest.input

    def given_path(self, artifact: str) -> Path | None:
        """Where the run's copy of it lies."""
        record = self.given(artifact)
        return None if record is None else self.path.resolve() / record.file

    def accept(
        self, node: str, spec: ArtifactSpec, parts: Sequence[Part], frames: Sequence[Any]
    ) -> list[FileRecord]:
        """Put an artifact that a child handed over in its final place.

        Nothing that the child says is trusted: file names must be those of the spec, sizes and
        .npy headers must fit. Raises `ProtocolError`, `ContractError` or OSError.
        """
        allowed = set(codec.file_names(spec))
        folder = self.node_folder(node)
        records = []
        for part in parts:
            if part.file not in allowed:
                raise ProtocolError(f"{node} handed over a file that it may not write: {part.file}")
            if part.frame >= 0:
                self._accept_frame(folder, spec, part, frames)
            else:
                self._accept_temp(folder, spec, part)
            records.append(FileRecord(file=part.file, size=part.size))
        missing = set(codec.required_files(spec)) - {record.file for record in records}
        if missing:
            raise ProtocolError(f"{node} did not hand over {sorted(missing)[0]}")
        return records

    def _accept_frame(
        self, folder: Path, spec: ArtifactSpec, part: Part, frames: Sequence[Any]
    ) -> None:
        if part.frame >= len(frames) or len(frames[part.frame]) != part.size:
            raise ProtocolError(f"{part.file}: the frame is missing or has another size")
        content = frames[part.frame]
        if part.file.endswith(".npy"):
            header = io.BytesIO(bytes(content[:512]))
            codec.check_header(spec, part.file, header, part.size)
        write_atomic(folder / part.file, content, durable=False)

    def _accept_temp(self, folder: Path, spec: ArtifactSpec, part: Part) -> None:
        temp = folder / part.temp
        if Path(part.temp).name != part.temp or not part.temp.startswith("."):
            raise ProtocolError(f"{part.file}: not a temporary file's name: {part.temp}")
        if not temp.is_file() or temp.is_symlink() or temp.stat().st_size != part.size:
            raise ProtocolError(f"{part.file}: the file is missing or has another size")
        if part.file.endswith(".npy"):
            with temp.open("rb") as stream:
                codec.check_header(spec, part.file, stream, part.size)
        temp.replace(folder / part.file)

    def make_durable(
        self, node: str, artifacts: Mapping[str, Sequence[FileRecord]]
    ) -> dict[str, list[FileRecord]]:
        """fsync the files and return their records with digests. Runs beside the next stage."""
        folder = self.path / node
        done = {
            name: [
                record.model_copy(update={"digest": sync_and_digest(folder / record.file)})
                for record in records
            ]
            for name, records in artifacts.items()
        }
        sync_folder(folder)
        return done

    def write_previews(self, node: str, specs: Sequence[ArtifactSpec]) -> None:
        """A PNG beside each image artifact, for people: not recorded, not durable."""
        for spec in specs:
            if spec.kind == "image" and spec.name in self.manifest.nodes[node].artifacts:
                try:
                    array = codec.read(spec, self.artifact_paths(node, spec.name))
                    target = self.path / node / f"{spec.name}.png"
                    write_atomic(target, codec.preview_png(array), durable=False)
                except (OSError, ValueError, TypeError) as error:  # e.g. no pixels at all
                    self.event("no preview", node=node, artifact=spec.name, error=str(error))

    def intact(self, node: str) -> str:
        """ "" when all files of a finished node are there and unchanged, else what is wrong."""
        for records in self.manifest.nodes[node].artifacts.values():
            for record in records:
                path = self.path / node / record.file
                if not path.is_file():
                    return f"{record.file} is gone"
                try:
                    same = path.stat().st_size == record.size and digest_file(path) == record.digest
                except OSError as error:
                    return f"{record.file} cannot be read ({error.strerror or error})"
                if not same:
                    return f"{record.file} was changed"
        return ""

    def discard_partial(self, node: str = "") -> None:
        """Remove temporary files that a killed run or child left behind (of one node, or all)."""
        for leftover in (self.path / node).glob("**/.*.part"):
            with contextlib.suppress(OSError):
                leftover.unlink()


def _way_on(path: Path) -> str:
    """What to do with a run directory without a usable run.json: its picture's copy is there."""
    pictures = sorted(path.glob("input.*"))
    if not pictures:
        return f"delete {path} if you need nothing in it"
    return f"`{command('run', pictures[0])}` makes it anew; then delete {path}"


@contextlib.contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """The lock of a run directory, and of the batch that it belongs to.

    The lock is the kernel's, so it ends with this process however that dies.
    Raises `RunLockedError` or `OutputError`.
    """
    with contextlib.ExitStack() as stack:
        if (path.parent / BATCH_FILE).is_file():
            stack.enter_context(directory_lock(path.parent))
        stack.enter_context(directory_lock(path))
        yield


@contextlib.contextmanager
def directory_lock(path: Path) -> Iterator[None]:
    """Hold the lock file of a run or batch directory. Raises `RunLockedError` or `OutputError`."""
    lock = FileLock(path / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RunLockedError(
            f"another process is working in {path}",
            "wait for it to end, or give this run another --output",
        ) from None
    except OSError as error:
        raise _output_error(path, error) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (path / LOCK).unlink(missing_ok=True)
        lock.release()


@contextlib.contextmanager
def as_output_error(path: Path) -> Iterator[None]:
    """Raise `OutputError` for what the system refuses while something is made at `path`."""
    try:
        yield
    except OSError as error:
        raise _output_error(path, error) from error


def _output_error(path: Path, error: OSError) -> OutputError:
    hint = "choose another --output"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = f"free disk space, or {hint}"
    elif error.errno in (errno.EEXIST, errno.ENOTDIR):
        hint = f"a file is where a directory has to be: {hint}"
    return OutputError(f"cannot write to {path}: {error.strerror or error}", hint)
