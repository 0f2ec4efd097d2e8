"""What the user gave for a run, read once: pictures, a mask, a mesh, words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.commands.mesh_files import read_mesh
from orchestrator.commands.pictures import SUFFIXES, require_picture, written_by_us
from orchestrator.commands.subject import MESH, TEXT, Subject
from orchestrator.errors import InputFileError, command
from orchestrator.planning.request import Prepared
from orchestrator.planning.shortages import require_inputs
from orchestrator.record.manifest import InputRecord
from orchestrator.system.atomic_files import digest_bytes
from orchestrator.system.text import printable
from stages.contract.filetypes import HEAD, identify


@dataclass(frozen=True)
class Given:
    """All that was given for one run, by artifact.

    records   what run.json says of each; the run is called after the first
    contents  of what was read; a file that is gone is not, and the run's copy of it serves
    """

    records: Mapping[str, InputRecord] = field(default_factory=dict)
    contents: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def first(self) -> InputRecord:
        return next(iter(self.records.values()))


def read_given(
    prepared: Prepared, subject: Subject, known: Mapping[str, InputRecord] | None = None
) -> Given:
    """Read all that a subject names.

    known: what a run of the same subject has copies of. Raises `InputFileError`, or `ConfigError`
    where the profile begins with something else.
    """
    require_inputs(prepared, subject.start, subject.artifacts)
    records: dict[str, InputRecord] = {}
    contents: dict[str, bytes] = {}
    stages = {node.config.stage for node in prepared.whole.nodes.values()}
    for artifact, path in subject.files.items():
        name = artifact.removeprefix("input_") if records else "input"
        old = (known or {}).get(artifact)
        if old is not None and not path.exists() and printable(path.resolve()) == old.source:
            records[artifact] = old
            continue
        if artifact == MESH:
            limit_mib = prepared.settings.profile.runtime.max_input_mib
            content = read_mesh(path, limit_mib << 20)
            suffix = _mesh_suffix(content)
        else:
            content = _read_file(prepared, path)
            require_picture(path, content)
            if _is_text(content) and "preprocess" in stages:
                first = "--text takes words, `batch` a list"
                hint = f"--{name} takes a picture" if records else first
                raise InputFileError(f"{path} is not a picture: it is a text file", hint)
            suffix = _picture_suffix(path, content)
        contents[artifact] = content
        records[artifact] = InputRecord(
            source=printable(path.resolve()),
            file=f"{name}{suffix}",
            size=len(content),
            digest=digest_bytes(content),
        )
    if subject.text:
        contents[TEXT] = subject.text.encode()
        records[TEXT] = InputRecord(
            text=subject.text,
            file="text.txt" if records else "input.txt",
            size=len(contents[TEXT]),
            digest=digest_bytes(contents[TEXT]),
        )
    return Given(records, contents)


def _is_text(content: bytes) -> bool:
    """Whether a file is words: UTF-8 with letters, without control characters, no known format."""
    if identify(content[:HEAD]) is not None:
        return False
    try:
        beginning = content[:HEAD].decode()
    except UnicodeDecodeError as error:
        if error.start < len(content[:HEAD]) - 4:  # else a letter was cut
            return False
        beginning = content[: error.start].decode()
    plain = all(sign.isprintable() or sign.isspace() for sign in beginning)
    return plain and any(map(str.isalpha, beginning))


def _read_file(prepared: Prepared, path: Path) -> bytes:
    """A file's content, as large as the request allows at most. Raises `InputFileError`."""
    limit_mib = prepared.settings.profile.runtime.max_input_mib
    try:
        if path.is_dir():
            own = written_by_us(path)
            hint = command("resume", path) if own else "`kiss3d-orchestrate batch` takes those"
            raise InputFileError(f"{path} is {own or 'a directory'}", hint)
        size = path.stat().st_size
        if not path.is_file():
            raise InputFileError(f"{path} is no regular file", "give a picture's file")
        if size > limit_mib << 20:
            raise InputFileError(
                f"{path} has {size / 2**20:.0f} MiB, more than {limit_mib} MiB",
                "--set runtime.max_input_mib=N raises the limit",
            )
        if size == 0:
            raise InputFileError(f"{path} is empty", "give a picture's file that holds something")
        return path.read_bytes()
    except FileNotFoundError:
        raise InputFileError(f"{path} does not exist", "check the path") from None
    except OSError as error:
        hint = "check its access rights" if isinstance(error, PermissionError) else ""
        raise InputFileError(f"cannot read {path}: {error.strerror or error}", hint) from error


def _picture_suffix(path: Path, content: bytes) -> str:
    """What the copy's name ends in, so that image viewers open it."""
    if (suffix := path.suffix.lower()) in SUFFIXES:
        return suffix
    found = identify(content[:HEAD])
    suffix = f".{found.name}" if found else ""
    return suffix if suffix in SUFFIXES else ".img"


def _mesh_suffix(content: bytes) -> str:
    """What the copy's name ends in: it may be an archive of the mesh and its files."""
    found = identify(content[:HEAD], len(content))
    if found is not None and found.mesh:
        return f".{found.name}"
    return ".zip" if found is not None and found.name == "archive" else ".mesh"
