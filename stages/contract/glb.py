"""The container of a .glb file, and whether what its document says of its bytes can be true.

Layout and names are those of glTF 2.0, "GLB File Format Specification" and "Buffers". Standard
library only.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

from stages.contract.mesh_files import gltf_document

MAGIC = b"glTF"
HEADER = struct.Struct("<4sII")
"""Magic, version, and the bytes of the whole file."""
_CHUNK = struct.Struct("<I4s")
_SIZES = {5120: 1, 5121: 1, 5122: 2, 5123: 2, 5125: 4, 5126: 4}
"""Bytes of each component type."""
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}


def own_bytes(content: bytes) -> bytes:
    """The file without what stands behind its end: some programs pad files, and readers that take
    padding for a chunk call it too short. Raises ValueError."""
    if content[:4] != MAGIC:
        raise ValueError("it is no GLB file" if content else "it is empty")
    length = HEADER.unpack_from(content)[2] if len(content) >= HEADER.size else HEADER.size
    if length > len(content):
        raise ValueError("it ends in the middle: it was not copied or downloaded to its end")
    return content[:length]


def glb_parts(content: bytes) -> tuple[bytes, bytes | None]:
    """The text of its document, and its binary chunk, None without. Raises ValueError."""
    content = own_bytes(content)
    chunks: dict[bytes, bytes] = {}
    at = HEADER.size
    while at + _CHUNK.size <= len(content):
        length, kind = _CHUNK.unpack_from(content, at)
        at += _CHUNK.size
        if at + length > len(content):
            raise ValueError("a chunk of it is longer than the file")
        chunks.setdefault(kind, content[at : at + length])
        at += length
    if b"JSON" not in chunks:
        raise ValueError("it holds no document")
    return chunks[b"JSON"], chunks.get(b"BIN\0")


def require_fitting(content: bytes) -> None:
    """Refuse a file whose document names numbers that are not there; those in other files are not
    looked at. Raises ValueError."""
    text, binary = glb_parts(content)
    document = gltf_document(text)
    try:
        _check(document, binary or b"")
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError("its document is not laid out as glTF's are") from error


def _check(document: Mapping[str, Any], binary: bytes) -> None:
    views = document.get("bufferViews", [])
    for number, view in enumerate(views):
        buffer = document["buffers"][view["buffer"]]
        held = int(buffer["byteLength"]) if "uri" in buffer else len(binary)
        start, length = int(view.get("byteOffset", 0)), int(view["byteLength"])
        if start < 0 or length < 0 or start + length > held:
            raise ValueError(f"its buffer view {number} lies beyond the end of its data")
    for number, accessor in enumerate(document.get("accessors", [])):
        if "bufferView" not in accessor:
            continue
        view = views[accessor["bufferView"]]
        size = _SIZES[accessor["componentType"]] * _WIDTHS[accessor["type"]]
        stride = int(view.get("byteStride", 0)) or size
        count = int(accessor["count"])
        end = int(accessor.get("byteOffset", 0)) + stride * (count - 1) + size
        if count > 0 and end > int(view["byteLength"]):
            raise ValueError(
                f"its accessor {number} names {count:,} elements, more than there are bytes for"
            )
