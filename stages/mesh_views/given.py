"""The bytes of `input_mesh`: which kind of mesh they are, and the files that came with it."""

from __future__ import annotations

import io
import posixpath
import zipfile
import zlib
from dataclasses import dataclass

from stages.contract import BadInput
from stages.contract.filetypes import HEAD, identify
from stages.contract.mesh_files import ZIP_KINDS, bare, inside, is_web

MOST_MEMBERS = 5000
_USE = "Use a GLB, PLY or STL file, an OBJ or glTF file, or a zip archive of one of them."


@dataclass(frozen=True)
class Files:
    """What came with a mesh, by path below the archive's root. Nothing else can be asked for.

    folder  of the mesh in the archive, "" for the root
    """

    content: dict[str, bytes]
    folder: str = ""

    def find(self, name: str, below: str = "") -> bytes | None:
        """The file that the mesh, or a file in its folder `below`, calls `name`; None without.

        Found by its path, else by its last part in the mesh's folder; capitals may differ.
        """
        if is_web(name):
            return None
        place = inside(name, below)
        for wanted in (place, bare(name)):
            if wanted is None:
                continue
            path = posixpath.normpath(posixpath.join(self.folder, wanted))
            if path in self.content:
                return self.content[path]
            for other, data in self.content.items():
                if other.lower() == path.lower():
                    return data
        return None


@dataclass(frozen=True)
class Given:
    """A mesh file. kind: "glb", "gltf", "obj", "ply" or "stl"."""

    kind: str
    content: bytes
    beside: Files


def open_given(data: bytes, max_bytes: int) -> Given:
    """Tell what the bytes are. Raises BadInput for what is no mesh, or too large."""
    if not data:
        raise BadInput("the mesh file is empty", "Copy or download it again.")
    if len(data) > max_bytes:
        raise BadInput(
            f"the mesh file has {len(data):,} bytes, more than the limit of {max_bytes:,}",
            "Use a smaller mesh, or raise the limit: --set mesh_views.max_bytes=NUMBER.",
        )
    found = identify(data[:HEAD], len(data))
    if found is not None and found.name == "archive":
        return _of_archive(data, max_bytes)
    return Given(_kind(data, ""), data, Files({}))


def _kind(data: bytes, name: str) -> str:
    found = identify(data[:HEAD], len(data))
    if found is not None and found.mesh:
        return found.name
    suffix = posixpath.splitext(name)[1].lower()
    if found is None and suffix in ZIP_KINDS:
        return suffix[1:]
    if found is None and (data.lstrip()[:1] == b"#" or b"\nv " in data[: 1 << 16]):
        return "obj"  # comments that fill all that `identify` looks at
    what = found.title if found else "no mesh that can be read"
    raise BadInput(f"{name or 'the mesh file'} is {what}", _USE)


def _of_archive(data: bytes, max_bytes: int) -> Given:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
            _check(members, max_bytes)
            content = {}
            for member in members:
                path = inside(member.filename)
                if path is not None:
                    with archive.open(member) as stream:
                        content[path] = stream.read(member.file_size)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise BadInput(f"the archive cannot be read: {error}", _USE) from error
    except (NotImplementedError, RuntimeError) as error:  # a password, a rare compression
        raise BadInput(
            f"the archive cannot be read: {error}", "Pack it as a plain .zip, without a password."
        ) from error
    names = [
        name
        for name in content
        if name.lower().endswith(ZIP_KINDS)
        and not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))
    ]
    if len(names) != 1:
        there = ", ".join(sorted(names)[:5]) or "none"
        raise BadInput(
            f"the archive has to hold one mesh, and holds {len(names)}: {there}",
            "Give the mesh's own file, or an archive with one of them.",
        )
    (name,) = names
    found = content[name]
    if not found:
        raise BadInput(f"{name} is empty", "Copy or download it again.")
    return Given(_kind(found, name), found, Files(content, posixpath.dirname(name)))


def _check(members: list[zipfile.ZipInfo], max_bytes: int) -> None:
    """Sizes as the archive states them; more than that is never read of a member."""
    if len(members) > MOST_MEMBERS:
        raise BadInput(
            f"the archive has {len(members):,} files, more than {MOST_MEMBERS:,}",
            "Give the mesh's own file, or an archive with it alone.",
        )
    total = sum(member.file_size for member in members)
    if total > max_bytes:
        raise BadInput(
            f"the archive's files have {total:,} bytes, more than the limit of {max_bytes:,}",
            "Use a smaller mesh, or raise the limit: --set mesh_views.max_bytes=NUMBER.",
        )
