"""Reading the user's mesh: one file, or one and those beside it that it names, as an archive.

A GLB, PLY or STL file has all in it. An OBJ names material files, which name pictures; a .gltf file
names its data and pictures. What they name is taken from the mesh's own folder alone, through no
link that leads out of it, and never from the net. What is not there is left out: the stage that
reads the archive says so.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

from orchestrator.errors import InputFileError, brief
from orchestrator.system.text import valid_text
from stages.contract.filetypes import HEAD, identify
from stages.contract.mesh_files import (
    WHEN,
    ZIP_KINDS,
    bare,
    gltf_document,
    gltf_files,
    inside,
    is_web,
    libraries,
    pictures,
)

MOST_FILES = 1000
"""Beside one mesh. Scanned scenes have some dozens."""
_SAVE_AS = "save it as .glb in the program that made it"


def read_mesh(path: Path, limit_bytes: int) -> bytes:
    """What `mesh_views` reads: the file itself, or a zip archive of it and of what it names.

    limit_bytes bounds the sum of all files. The same files make the same archive. Raises
    `InputFileError`: no mesh, empty, too large, or one that names files outside of its folder.
    """
    content = _read(path, limit_bytes, str(path))
    kind = _kind(path, content)
    if kind == "obj":
        return _packed(path, content, limit_bytes, _of_obj)
    if kind == "gltf":
        return _packed(path, content, limit_bytes, _of_gltf)
    return content


def _kind(path: Path, content: bytes) -> str:
    """Name of the file's type, as far as it decides. Raises `InputFileError`."""
    found = identify(content[:HEAD], len(content))
    suffix = path.suffix.lower()
    if found is None and suffix in ZIP_KINDS:
        return suffix[1:]
    if found is not None and found.name == "archive":
        if meshes_in(path):
            return "zip"
        raise InputFileError(
            f"{path} is an archive without a mesh in it",
            f"a .zip archive may hold one of {', '.join(ZIP_KINDS)}",
        )
    if found is None or not found.mesh:
        what = f"is {found.title}" if found else "is no mesh that can be read"
        raise InputFileError(f"{path} {what}", f"give {', '.join(ZIP_KINDS)}, or a .zip of them")
    return found.name


def meshes_in(path: Path) -> list[str]:
    """Names of the meshes in a zip archive, none for another file."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError):
        return []
    return [name for name in names if name.lower().endswith(ZIP_KINDS)]


def _packed(
    path: Path, content: bytes, limit: int, names_of: Callable[[Path, bytes, _Beside], None]
) -> bytes:
    beside = _Beside(path, limit - len(content))
    names_of(path, content, beside)
    if not beside.files:
        return content
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, data in [(path.name, content), *sorted(beside.files.items())]:
            member = zipfile.ZipInfo(name, WHEN)
            member.create_system = 3  # else the machine's own, and other bytes on Windows
            archive.writestr(member, data)
    return stream.getvalue()


def _of_obj(_path: Path, content: bytes, beside: _Beside) -> None:
    for library in libraries(content):
        materials = beside.take(library, "")
        for picture in pictures(materials or b""):
            beside.take(picture, os.path.dirname(inside(library) or ""))


def _of_gltf(path: Path, content: bytes, beside: _Beside) -> None:
    try:
        names = gltf_files(gltf_document(content))
    except (ValueError, AttributeError, KeyError, IndexError, TypeError) as error:
        raise InputFileError(
            f"{path} is damaged: {str(error) or type(error).__name__}", _SAVE_AS
        ) from error
    for name in names:
        beside.take(name, "")


class _Beside:
    """The files of the mesh's folder that were asked for, by their paths below it."""

    def __init__(self, mesh: Path, room: int) -> None:
        self._mesh, self._room = mesh, room
        self._folder = Path(os.path.realpath(mesh.parent))
        self.files: dict[str, bytes] = {}

    def take(self, name: str, below: str) -> bytes | None:
        """The content of a named file, None where there is none; it is kept for the archive.

        name: as the text has it, seen from the folder `below` the mesh's own. A path that leads
        elsewhere, as those of the machine that made the file do, is looked for by its last part.
        """
        if is_web(name):
            raise InputFileError(
                f"{self._mesh} names {brief(valid_text(name))}, which is an address, not a file",
                f"nothing is downloaded for a mesh: {_SAVE_AS}, with its pictures in it",
            )
        place = inside(name, below)
        for wanted in dict.fromkeys((place, bare(name))):
            if wanted and (found := self._find(wanted, name)) is not None:
                key = found.relative_to(self._folder).as_posix()
                if key not in self.files:
                    self.files[key] = self._content(found)
                return self.files[key]
        if place is None:
            self._refuse(name)
        return None

    def _find(self, wanted: str, name: str) -> Path | None:
        """The regular file, or None. Raises `InputFileError` where a link leads out."""
        for spelling in self._spellings(wanted):
            real = Path(os.path.realpath(self._folder / spelling))
            try:
                if not stat.S_ISREG(real.stat().st_mode):
                    continue
            except (OSError, ValueError):
                continue
            if not real.is_relative_to(self._folder):
                self._refuse(name)
            if os.path.samefile(real, self._mesh):
                continue
            return self._folder / spelling
        return None

    def _spellings(self, wanted: str) -> list[str]:
        """The name itself, and one that differs in capitals, as files from Windows have it."""
        folder, name = os.path.split(wanted)
        place = self._folder / folder
        try:
            if not Path(os.path.realpath(place)).is_relative_to(self._folder):
                return [wanted]
            alike = [one for one in os.listdir(place) if one.lower() == name.lower()]
        except (OSError, ValueError):
            return []
        return [os.path.join(folder, one) for one in sorted(alike, key=lambda one: one != name)]

    def _content(self, file: Path) -> bytes:
        if len(self.files) >= MOST_FILES:
            raise InputFileError(f"{self._mesh} names more than {MOST_FILES} files", _SAVE_AS)
        data = _read(file, self._room, f"{file}, which {self._mesh.name} names,")
        self._room -= len(data)
        return data

    def _refuse(self, name: str) -> None:
        raise InputFileError(
            f"{self._mesh} names {brief(valid_text(name))}, which lies outside of its folder",
            "put that file beside the mesh; nothing outside of the folder is read",
        )


def _read(path: Path, limit: int, told: str) -> bytes:
    """A regular file of at most `limit` bytes. Raises `InputFileError`."""
    try:
        if path.is_dir():
            raise InputFileError(f"{told} is a directory", "name the mesh's file")
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputFileError(f"{told} is no regular file", "give a mesh's file")
        with path.open("rb") as stream:
            content = stream.read(max(limit, 0) + 1)
    except FileNotFoundError:
        raise InputFileError(f"{told} does not exist", "check the path") from None
    except OSError as error:
        raise InputFileError(f"cannot read {told}: {error.strerror or error}") from error
    if len(content) > limit:
        raise InputFileError(
            f"{told} is too large: more than {limit / 2**20:.0f} MiB are not read for one mesh",
            "reduce the mesh and its pictures, or raise the limit: --set runtime.max_input_mib=N",
        )
    if not content:
        raise InputFileError(f"{told} is empty", "copy or download it again")
    return content
