"""The run directory: the complete, resumable record of one run.

    <run>/run.json            manifest (atomic, fsync)
    <run>/events.jsonl        what happened, in order
    <run>/input.<suffix>      the picture, words or mesh as given
    <run>/mask.<suffix>       what was given besides: mask, back, left, right, text
    <run>/<node>/             artifacts, previews, attempt-N.log
    <run>/result/             meshes and their textures, bundle.png, preview.png, report.html

An artifact counts only when the manifest lists it, and the manifest lists one that was computed
only after its files are fsynced and renamed. A copy from another run is not fsynced: whoever takes
it over later holds it to its digest, as all of them. A run begins with its manifest: one without a
picture died while it was being made.
"""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import NewerRecordError, RunRecordError, command
from orchestrator.pipeline.names import NODE_NAME
from orchestrator.record.manifest import FORMAT, FileRecord, InputRecord, Manifest
from orchestrator.system.atomic_files import digest_bytes, digest_file, digest_stream, json_bytes
from orchestrator.system.folders import NewFolder
from orchestrator.system.inside import Inside
from orchestrator.system.locks import BATCH_FILE, SHARDS_FILE, as_output_error, run_lock
from orchestrator.system.places import LinkError
from orchestrator.system.reading import JSON_BYTES, json_data, read_limited
from orchestrator.system.text import valid_text
from stages.contract import ArtifactSpec, codec

OUTPUTS = "outputs"
MANIFEST = "run.json"
EVENTS = "events.jsonl"
RESULT = "result"
INLINE = "inline"
"""In a node's folder: what `stage --inline` wrote."""
ATTEMPT_LOG = "attempt-"
"""What the name of an attempt's log begins with; a number and .log follow."""
ATTEMPT_LOGS = re.compile(rf"{ATTEMPT_LOG}\d+\.log")
BATCH_LOGS = "logs"
"""In a batch directory: the logs of its processes, which serve many runs."""
PROCESS_LOGS = re.compile(r"[A-Za-z][A-Za-z0-9_-]*-\d+\.log")
"""Their names: the node's, and a number."""


class RunDirectory:
    """One run on disk. `locked()` must be held while anything is written.

    inside: the way to everything that is written or removed in it, past no link.
    """

    _manifest: Manifest | None
    _on_disk: bool

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.inside = Inside(path)
        self.manifest = manifest

    @property
    def manifest(self) -> Manifest:
        """The record. Raises `RunRecordError` where it rests on the disk, and has gone from it."""
        manifest = self._manifest
        if manifest is None:
            manifest = self._manifest = RunDirectory.open(self.path).manifest
        return manifest

    @manifest.setter
    def manifest(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._on_disk = False

    def rest(self) -> None:
        """Let go of the record, tens of KB, if it was saved: it is read again when asked for. What
        was changed in it since must have been saved too."""
        if self._on_disk:
            self._manifest = None

    @contextlib.contextmanager
    def at_hand(self) -> Iterator[Manifest]:
        """The record; of a run that rests only for as long as this lasts. Raises as `manifest`."""
        rests = self._manifest is None
        try:
            yield self.manifest
        finally:
            if rests:
                self.rest()

    @classmethod
    def create(cls, path: Path, manifest: Manifest, contents: Mapping[str, bytes]) -> RunDirectory:
        """A new run in an empty or missing directory, with copies of what was given, by artifact.

        Raises `OutputError`, and leaves nothing.

        The record comes first: whatever dies from then on leaves a run that `resume` can finish.
        """
        run = cls(path, manifest)
        with as_output_error(path), NewFolder(path) as folder:
            run.save()
            for name, record in manifest.given.items():
                run.inside.write(record.file, contents[name])
            folder.keep()
        return run

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """An existing run. Raises `RunRecordError`."""
        file = path / MANIFEST
        if not file.is_file():
            if (path / EVENTS).is_file() and not (path / SHARDS_FILE).is_file():
                raise RunRecordError(f"{file} is gone", _way_on(path))
            if not path.exists():
                raise RunRecordError(f"{path} does not exist", "check the path")
            raise RunRecordError(f"{path} holds no run", _way_to_begin(path))
        try:
            manifest = Manifest.model_validate(json_data(read_limited(file, JSON_BYTES)))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            what = f"{where} {first['msg']}".strip()
            raise RunRecordError(f"{file} cannot be read: {what}", _way_on(path)) from error
        except ValueError as error:
            raise RunRecordError(f"{file} cannot be read: {error}", _way_on(path)) from error
        except OSError as error:
            what = error.strerror or str(error)
            raise RunRecordError(f"{file} cannot be read: {what}", _way_on(path)) from error
        if manifest.format > FORMAT:
            raise NewerRecordError(
                f"{file} was written by a newer version ({manifest.version})",
                "upgrade, or run the picture anew",
            )
        run = cls(path, manifest)
        run._on_disk = True
        return run

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
        """Hold the run's copies of what was given to their digests, and its folders to being
        folders.

        A run that died while it was being made may lack a copy yet: it gets one, if the file that
        was given is still the same. Raises `RunRecordError`.
        """
        self._check_folders()
        for record in self.manifest.given.values():
            path = self.path.resolve() / record.file
            if not path.exists():
                self._copy(record)
            try:
                same = digest_file(path) == record.digest
            except OSError as error:
                raise RunRecordError(
                    f"{path} cannot be read: {error.strerror or error}", "run the picture anew"
                ) from error
            if not same:
                raise RunRecordError(f"{path} was changed since the run began", "run it anew")

    def _check_folders(self) -> None:
        nodes = filter(NODE_NAME.fullmatch, self.manifest.settings.get("nodes", {}))
        for name in sorted({RESULT, *self.manifest.nodes, *nodes}):
            try:
                self.inside.check(name)
            except LinkError as error:
                raise RunRecordError(
                    f"{self.path / name} is a link; a run writes nothing outside of its directory",
                    "put the folder that it leads to in its place, or delete the link",
                ) from error

    def _copy(self, record: InputRecord) -> None:
        if not record.source:
            self.inside.write(record.file, record.text.encode())
            return
        source = Path(record.source)
        with contextlib.suppress(OSError, ValueError):  # a name that no system takes
            if source.is_file() and source.stat().st_size == record.size:
                content = source.read_bytes()
                if digest_bytes(content) == record.digest:
                    self.inside.write(record.file, content)

    @property
    def half_made(self) -> bool:
        """Whether it died before it had all that was given: there is nothing in it to lose."""
        copies = [self.path / record.file for record in self.manifest.given.values()]
        return not self.manifest.nodes and not all(copy.exists() for copy in copies)

    def save(self) -> None:
        """Write run.json. Raises OSError when the disk is full."""
        record = valid_text(self.manifest.model_dump(mode="json"))
        self._on_disk = False
        self.inside.write(MANIFEST, json_bytes(record))
        self._on_disk = True

    def event(self, kind: str, /, **fields: Any) -> None:
        """Append one line to events.jsonl; a full disk must not end the run here."""
        line = json.dumps({"time": round(time.time(), 4), "event": kind, **fields}, default=str)
        with contextlib.suppress(OSError):
            self.inside.append(EVENTS, line.encode() + b"\n")

    def node_folder(self, node: str) -> Path:
        self.inside.make_folder(node)
        return self.path / node

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
        return self.manifest.given.get(artifact)

    def given_path(self, artifact: str) -> Path | None:
        """Where the run's copy of it lies."""
        record = self.given(artifact)
        return None if record is None else self.path.resolve() / record.file

    def make_durable(
        self, node: str, artifacts: Mapping[str, Sequence[FileRecord]]
    ) -> dict[str, list[FileRecord]]:
        """fsync the files and return their records with digests. Runs beside the next stage."""
        done = {
            name: [
                record.model_copy(update={"digest": self._sync(f"{node}/{record.file}")})
                for record in records
            ]
            for name, records in artifacts.items()
        }
        self.inside.sync_folder(node)
        return done

    def _sync(self, file: str) -> str:
        self.inside.sync(file)
        with self.inside.read(file) as stream:
            return digest_stream(stream)

    def write_previews(self, node: str, specs: Sequence[ArtifactSpec]) -> None:
        """A PNG beside each image artifact, for people: not recorded, not durable."""
        for spec in specs:
            if spec.kind == "image" and spec.name in self.manifest.nodes[node].artifacts:
                try:
                    array = codec.read(spec, self.artifact_paths(node, spec.name))
                    png = codec.preview_png(array)
                    self.inside.write(f"{node}/{spec.name}.png", png, durable=False)
                except (OSError, ValueError, TypeError) as error:  # e.g. no pixels at all
                    self.event("no preview", node=node, artifact=spec.name, error=str(error))

    def intact(self, node: str) -> str:
        """ "" when all files of a finished node are there and unchanged, else what is wrong."""
        for records in self.manifest.nodes[node].artifacts.values():
            for record in records:
                path = self.path / node / record.file
                if path.is_symlink() or not path.is_file():
                    return f"{record.file} {self.why_gone}"
                try:
                    same = path.stat().st_size == record.size and digest_file(path) == record.digest
                except OSError as error:
                    return f"{record.file} cannot be read ({error.strerror or error})"
                if not same:
                    return f"{record.file} was changed"
        return ""

    @property
    def why_gone(self) -> str:
        """What to say of a node's file that is missing."""
        kept = self.manifest.kept
        return "is gone" if kept == "all" else f"was not kept (--keep {kept})"

    def discard_partial(self, node: str = "") -> None:
        """Remove temporary files that a killed run or child left behind (of one node, or all)."""
        for folder in [node] if node else ["", RESULT, *self.manifest.nodes]:
            self.inside.discard_temporaries(folder)


def _way_to_begin(path: Path) -> str:
    """What to do with a directory that no run was begun in, if one was meant to be."""
    if (path / BATCH_FILE).is_file():
        return "it is a batch: name the directory of one of its pictures"
    if (path / SHARDS_FILE).is_file():
        merge = command("batch", "merge", path)
        return f"shards of a batch share it: `{merge}` says what is missing; name one of them"
    pictures = sorted(path.glob("input.*"))
    if pictures:
        return f"`{command('run', pictures[0], '--output', path)}` makes one of the picture in it"
    listing = "`kiss3d-orchestrate runs list FOLDER` shows those below a folder, or below outputs"
    return f"{listing}; `run IMG --output DIR` makes one there"


def _way_on(path: Path) -> str:
    """What to do with a run directory without a usable run.json: its picture's copy is there."""
    pictures = sorted(path.glob("input.*"))
    if not pictures:
        return f"delete {path} if you need nothing in it"
    return f"`{command('run', pictures[0])}` makes it anew; then delete {path}"
