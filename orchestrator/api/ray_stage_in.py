"""`--stage-in`: a shard where no folder is shared. Its inputs go to the node, and its directory
comes back, through Ray's object store.

    driver: pack ── zip ──> node: unpack in a private folder, work, pack ── zip ──> driver: unpack

The node's copy of shards.json names its own copies of the inputs; what comes back names the files
that were given, and the user's directory: paths in the records are put right on arrival. A shard
that was begun travels there too, and is gone on with. What a lost or cancelled task had done is
lost with it: its shard begins again where it was when it was given out.
"""

from __future__ import annotations

import contextlib
import html
import io
import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from orchestrator.api.request import Request
from orchestrator.commands import batch_directory, shards
from orchestrator.commands.mesh_files import read_mesh
from orchestrator.commands.subject import MESH, MESH_SUFFIXES, Subject
from orchestrator.errors import InputFileError, OutputError
from orchestrator.system.atomic_files import write_json
from orchestrator.system.locks import LOCK_FILES, SHARDS_FILE, as_output_error, directory_lock
from orchestrator.system.private_folders import private_folder

_INPUTS, _OUT, _CONFIG = "inputs", "out", "config.yaml"
_ARRIVING = ".{}.arriving"
"""A shard's directory while it is being unpacked; one that stayed is of a driver that died."""
_MESH_BYTES = 4 << 30
"""The node holds a mesh to the profile's own limit."""
_RECORDS = {".json": "json", ".jsonl": "json", ".csv": "plain", ".html": "html"}


def pack(layout: shards.Layout, shard: shards.Shard, request: Request) -> bytes:
    """What a node needs to work on a shard: its inputs, what is there of it, and --config."""
    part = layout.part(shard)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for number, subject in enumerate(part.jobs.values()):
            for artifact, path in subject.files.items():
                # What cannot be read is left out, and fails alone there, as it would here.
                with contextlib.suppress(OSError, InputFileError):
                    _add_input(archive, artifact, path, f"{_INPUTS}/{number}/{artifact}")
        if request.options.config_file is not None:
            archive.write(request.options.config_file, _CONFIG)
        _add(archive, part.path, f"{_OUT}/{shard.folder}")
    return stream.getvalue()


def _add_input(archive: zipfile.ZipFile, artifact: str, path: Path, name: str) -> None:
    """A file; with a mesh what it names beside it."""
    if artifact != MESH or path.suffix.lower() not in MESH_SUFFIXES:
        archive.write(path, f"{name}/{path.name}")
        return
    content = read_mesh(path, _MESH_BYTES)
    if not zipfile.is_zipfile(io.BytesIO(content)):
        archive.writestr(f"{name}/{path.name}", content)
        return
    with zipfile.ZipFile(io.BytesIO(content)) as beside:
        for member in beside.namelist():
            archive.writestr(f"{name}/{member}", beside.read(member))


def _add(archive: zipfile.ZipFile, folder: Path, name: str) -> None:
    """The regular files of a folder, locks left out."""
    for above, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            path = Path(above, file)
            if file not in LOCK_FILES and path.is_file() and not path.is_symlink():
                inner = path.relative_to(folder).as_posix()
                archive.write(path, f"{name}/{inner}")


@contextlib.contextmanager
def on_node(
    package: bytes, document: dict[str, object], request: Request, shard: shards.Shard
) -> Iterator[tuple[Request, Callable[[], bytes]]]:
    """On the node: a private folder with all that the request needs. Gives the request as it is to
    be carried out there, and how to pack what came of it. document: shards.json.
    """
    with private_folder() as root:
        out = root / _OUT
        out.mkdir()
        with zipfile.ZipFile(io.BytesIO(package)) as archive:
            archive.extractall(root)
        write_json(out / SHARDS_FILE, document)
        layout = shards.load(out)
        part = layout.part(shard)
        here = {
            name: _moved(subject, number, root)
            for number, (name, subject) in enumerate(part.jobs.items())
        }
        whole = replace(layout.whole, jobs={**layout.whole.jobs, **here})
        moved = {**document, **batch_directory.document(whole), "terms": dict(layout.terms)}
        write_json(out / SHARDS_FILE, moved)
        assert request.folder is not None
        options = request.options
        if options.config_file is not None:
            options = replace(options, config_file=root / _CONFIG)
        there = replace(request, options=options, folder=replace(request.folder, output=out))

        def packed() -> bytes:
            stream = io.BytesIO()
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
                archive.comment = str(root).encode()
                _add(archive, out / shard.folder, shard.folder)
            return stream.getvalue()

        yield there, packed


def _moved(subject: Subject, number: int, root: Path) -> Subject:
    files = {
        artifact: root / _INPUTS / str(number) / artifact / path.name
        for artifact, path in subject.files.items()
    }
    return replace(subject, files=files)


def unpack(package: bytes, layout: shards.Layout, shard: shards.Shard) -> None:
    """Put a shard's directory in its place, as if it had been made there. Raises `OutputError`."""
    part = layout.part(shard)
    arriving = layout.path / _ARRIVING.format(shard.folder)
    with as_output_error(part.path), directory_lock(layout.path, seconds=60.0):
        shutil.rmtree(arriving, ignore_errors=True)
        with zipfile.ZipFile(io.BytesIO(package)) as archive:
            names = archive.namelist()
            if not all(_is_below(name, shard.folder) for name in names):
                raise OutputError(f"shard {shard} came back with foreign files", "run it anew")
            archive.extractall(arriving)
            root = archive.comment.decode()
        if not names:
            return
        _put_right(arriving / shard.folder, _renamed(root, layout, shard))
        shutil.rmtree(part.path, ignore_errors=True)
        (arriving / shard.folder).rename(part.path)
        arriving.rmdir()


def sweep(layout: shards.Layout) -> None:
    """Remove what a driver left that died while a shard arrived."""
    for shard in layout.shards:
        shutil.rmtree(layout.path / _ARRIVING.format(shard.folder), ignore_errors=True)


def _is_below(name: str, folder: str) -> bool:
    path = PurePosixPath(name)
    return path.parts[:1] == (folder,) and ".." not in path.parts


def _renamed(root: str, layout: shards.Layout, shard: shards.Shard) -> list[tuple[str, str]]:
    """(path on the node, path here), the longest first: one may begin with another."""
    part = layout.part(shard)
    found = [(f"{root}/{_OUT}", str(layout.path.resolve()))]
    for number, subject in enumerate(part.jobs.values()):
        there = _moved(subject, number, Path(root))
        found += [(str(there.files[key]), str(path)) for key, path in subject.files.items()]
    if layout.whole.options.config_file is not None:
        found.append((f"{root}/{_CONFIG}", str(layout.whole.options.config_file.resolve())))
    return sorted(found, key=lambda pair: -len(pair[0]))


def _put_right(folder: Path, renamed: list[tuple[str, str]]) -> None:
    """Have the records of a shard and its runs name files as they are called here."""
    records = [*folder.glob("*"), *folder.glob("*/*"), *folder.glob("*/result/*")]
    for path in records:
        kind = _RECORDS.get(path.suffix)
        if kind is None or not path.is_file():
            continue
        text = content = path.read_bytes()
        for there, here in renamed:
            text = text.replace(_written(there, kind), _written(here, kind))
        if text != content:
            path.write_bytes(text)


def _written(path: str, kind: str) -> bytes:
    """A path as it stands in a record of this kind."""
    if kind == "json":
        return json.dumps(path)[1:-1].encode()
    if kind == "html":
        return html.escape(path).encode(errors="surrogateescape")
    return path.encode(errors="backslashreplace")
