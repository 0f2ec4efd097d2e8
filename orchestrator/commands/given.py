"""What the user gave for a run, read once: the picture, and a mask of it if there is one."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from orchestrator.commands.pictures import SUFFIXES, require_picture
from orchestrator.errors import InputFileError
from orchestrator.planning.request import Prepared
from orchestrator.record.manifest import InputRecord
from orchestrator.system.atomic_files import digest_bytes
from orchestrator.system.text import printable
from stages.contract.filetypes import HEAD, identify


@dataclass(frozen=True)
class GivenFile:
    """A file of the user's and its content."""

    source: Path
    content: bytes

    @cached_property
    def digest(self) -> str:
        return digest_bytes(self.content)

    @property
    def suffix(self) -> str:
        """What the copy's name ends in, so that image viewers open it."""
        if (suffix := self.source.suffix.lower()) in SUFFIXES:
            return suffix
        found = identify(self.content[:HEAD])
        suffix = f".{found.name}" if found else ""
        return suffix if suffix in SUFFIXES else ".img"

    def record(self, name: str) -> InputRecord:
        """What run.json says of it, its copy being called `name`."""
        return InputRecord(
            source=printable(self.source.resolve()),
            file=f"{name}{self.suffix}",
            size=len(self.content),
            digest=self.digest,
        )


@dataclass(frozen=True)
class Given:
    """All files of one run."""

    picture: GivenFile
    mask: GivenFile | None = None

    @property
    def mask_record(self) -> InputRecord | None:
        return self.mask.record("mask") if self.mask else None


def read_given(prepared: Prepared, source: Path) -> Given:
    """The picture `source` and the mask that the request names. Raises `InputFileError`."""
    return Given(read_file(prepared, source), read_mask(prepared))


def read_mask(prepared: Prepared) -> GivenFile | None:
    """The mask that the request names, if any. Raises `InputFileError`."""
    source = prepared.options.mask
    return None if source is None else read_file(prepared, source)


def read_file(prepared: Prepared, path: Path) -> GivenFile:
    """A picture, as large as the request allows at most. Raises `InputFileError`."""
    limit_mib = prepared.settings.profile.runtime.max_input_mib
    try:
        if path.is_dir():
            raise InputFileError(f"{path} is a directory", "`kiss3d-orchestrate batch` takes those")
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
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputFileError(f"{path} does not exist", "check the path") from None
    except OSError as error:
        raise InputFileError(f"cannot read {path}: {error.strerror or error}") from error
    require_picture(path, content)
    return GivenFile(path, content)
