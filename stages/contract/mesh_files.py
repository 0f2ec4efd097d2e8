"""What a mesh file names beside itself: an OBJ its materials and those their pictures, a glTF its
data.

The parent packs these files with the mesh, and the stage looks them up, by the same reading of the
text. Standard library only; nothing here opens a file.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

ZIP_KINDS = (".gltf", ".glb", ".obj", ".ply", ".stl")
"""Suffixes by which the mesh in a zip archive is found."""
WHEN = (1980, 1, 1, 0, 0, 0)
"""The date of all members of an archive that is made here: the same files, the same bytes."""

_LIBRARY = re.compile(rb"^[ \t]*mtllib[ \t]+([^\r\n]+)", re.MULTILINE)
_PICTURE = re.compile(rb"^[ \t]*map_Kd[ \t]+([^\r\n]+)", re.MULTILINE | re.IGNORECASE)
_OPTIONS = {"-s": 3, "-o": 3, "-t": 3, "-mm": 2}
"""Words that may follow an option of a `map_Kd` line; others have one."""
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def text_of(words: bytes) -> str:
    """A name as it stands in an OBJ or MTL file."""
    try:
        return words.decode("utf-8").strip()
    except UnicodeDecodeError:
        return words.decode("latin-1").strip()


def libraries(content: bytes) -> list[str]:
    """Names of the material files of an OBJ. A name with spaces comes whole, then in its parts, of
    which those that end in .mtl may be files."""
    names: list[str] = []
    for match in _LIBRARY.finditer(content):
        whole = text_of(match.group(1))
        parts = [part for part in whole.split() if part.lower().endswith(".mtl")]
        names += [whole] if len(parts) < 2 else parts
    return list(dict.fromkeys(name for name in names if name))


def picture_name(line: str) -> str:
    """The file of a `map_Kd` line, as "-s 2 2 1 dark wood.png", without its options."""
    rest = line.strip()
    while rest.startswith("-"):
        option, _, rest = rest.partition(" ")
        rest = rest.lstrip()
        for _ in range(_OPTIONS.get(option, 1)):
            word, _, after = rest.partition(" ")
            if option in _OPTIONS and not _NUMBER.fullmatch(word):
                break
            rest = after.lstrip()
    return rest


def pictures(content: bytes) -> list[str]:
    """Names of the colour pictures of an MTL file."""
    names = (picture_name(text_of(match.group(1))) for match in _PICTURE.finditer(content))
    return list(dict.fromkeys(name for name in names if name))


def gltf_files(document: Mapping[str, Any]) -> list[str]:
    """Names of the files that a glTF document needs: its buffers, and pictures of base colours.

    `data:` URIs are no files. Raises what a document of another shape makes Python raise:
    AttributeError, KeyError, IndexError, TypeError.
    """
    images = document.get("images", [])
    uris = [buffer.get("uri") for buffer in document.get("buffers", [])]
    uris += [images[number].get("uri") for number in _color_images(document)]
    return list(dict.fromkeys(unquote(uri) for uri in uris if uri and not is_data(uri)))


def _color_images(document: Mapping[str, Any]) -> Iterator[int]:
    for material in document.get("materials", []):
        number = color_texture(material).get("index")
        if number is not None:
            source = image_of(document["textures"][number])
            if source is not None:
                yield source


def color_texture(material: Mapping[str, Any]) -> Mapping[str, Any]:
    """The textureInfo of a glTF material's base colour, {} without."""
    older = material.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness")
    if older is not None:
        return older.get("diffuseTexture", {})  # type: ignore[no-any-return]
    return material.get("pbrMetallicRoughness", {}).get("baseColorTexture", {})  # type: ignore[no-any-return]


def image_of(texture: Mapping[str, Any]) -> int | None:
    """The number of a glTF texture's picture, of its WebP one where it has two; None without."""
    webp = texture.get("extensions", {}).get("EXT_texture_webp", {}).get("source")
    return webp if webp is not None else texture.get("source")


def is_data(uri: str) -> bool:
    """Whether a URI is its own content."""
    return uri[:5].lower() == "data:"


def is_web(name: str) -> bool:
    """Whether a name is an address and no file: http://, file://, smb:// and the like."""
    return re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", name) is not None or name.startswith("//")


def inside(name: str, below: str = "") -> str | None:
    """A named file's path below the mesh's own folder, with "/"; None: it lies elsewhere.

    below: the folder, seen from there, that the name starts from. A drive letter, a leading slash,
    or more ".." than folders lead elsewhere.
    """
    told = name.strip().replace("\\", "/")
    if is_web(told) or told.startswith("/") or re.match(r"[a-zA-Z]:", told) or "\0" in told:
        return None
    path = posixpath.normpath(posixpath.join(below, told))
    return None if path.startswith(("/", "../")) or path in ("..", ".") else path


def bare(name: str) -> str:
    """The last part of a path, whatever system it is from."""
    return posixpath.basename(name.strip().replace("\\", "/"))


def gltf_document(content: bytes) -> dict[str, Any]:
    """The JSON of a .gltf file. Raises ValueError."""
    try:
        document = json.loads(content)
    except (RecursionError, ValueError) as error:
        raise ValueError(f"its JSON cannot be read: {error}") from error
    if not isinstance(document, dict):
        raise ValueError("its JSON is no object")
    return document
