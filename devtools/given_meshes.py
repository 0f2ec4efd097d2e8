"""Mesh files as users have them, made from nothing: a box with a colour on each side, in every
format, and glTF documents put together by hand."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

SIDES = {
    "front": ((0, 0, 1), (1, 0, 0), (220, 40, 40)),
    "left": ((1, 0, 0), (0, 0, -1), (40, 40, 220)),
    "back": ((0, 0, -1), (-1, 0, 0), (40, 200, 40)),
    "right": ((-1, 0, 0), (0, 0, 1), (230, 220, 40)),
    "top": ((0, 1, 0), (1, 0, 0), (40, 220, 220)),
    "bottom": ((0, -1, 0), (1, 0, 0), (220, 40, 220)),
}
"""Normal, the direction that is image-right as one looks at the side, and its sRGB colour. The
object's left is where +x is."""
CELL = 32
"""Texels of a side in the atlas of 3 x 2 sides."""


def box(size: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> tuple[np.ndarray, ...]:
    """(24, 3) points, (6, 4) quads counter-clockwise, (24, 2) coordinates in the atlas, v down."""
    points, uv = [], []
    for number, (normal, right, _) in enumerate(SIDES.values()):
        n, r = np.array(normal, float), np.array(right, float)
        up = np.cross(n, r)
        column, row = number % 3, number // 3
        for s, t in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            points.append((n + s * r + t * up) * np.array(size) / 2.0)
            uv.append(((column + (s + 1) / 2) / 3, (row + (1 - t) / 2) / 2))
    return np.array(points), np.arange(24).reshape(6, 4), np.array(uv)


def triangles(quads: np.ndarray) -> np.ndarray:
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def atlas() -> Image.Image:
    picture = np.zeros((2 * CELL, 3 * CELL, 3), np.uint8)
    for number, (_, _, color) in enumerate(SIDES.values()):
        row, column = divmod(number, 3)
        picture[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = color
    return Image.fromarray(picture)


def encoded(picture: Image.Image, kind: str = "png") -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind)
    return stream.getvalue()


def glb(document: Mapping[str, Any], blob: bytes = b"") -> bytes:
    """A .glb file of a document and its binary chunk."""
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<I4s", len(text), b"JSON") + text
    if blob:
        blob += b"\0" * (-len(blob) % 4)
        chunks += struct.pack("<I4s", len(blob), b"BIN\0") + blob
    return struct.pack("<4sII", b"glTF", 2, 12 + len(chunks)) + chunks


def box_document(
    picture: bytes | None = None,
    size: tuple[float, float, float] = (1.0, 1.0, 1.0),
    **changes: Any,
) -> tuple[dict[str, Any], bytes]:
    """The textured box as a glTF document and its binary chunk; changes: of the top level."""
    points, quads, uv = box(size)
    picture = encoded(atlas()) if picture is None else picture
    parts = [
        points.astype("<f4").tobytes(),
        uv.astype("<f4").tobytes(),
        triangles(quads).astype("<u2").tobytes(),
        picture,
    ]
    offsets = np.cumsum([0, *(len(part) for part in parts)]).tolist()
    document: dict[str, Any] = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [
            {
                "primitives": [
                    {"attributes": {"POSITION": 0, "TEXCOORD_0": 1}, "indices": 2, "material": 0}
                ]
            }
        ],
        "materials": [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}],
        "textures": [{"source": 0}],
        "images": [{"bufferView": 3, "mimeType": "image/png"}],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 24, "type": "VEC3"},
            {"bufferView": 1, "componentType": 5126, "count": 24, "type": "VEC2"},
            {"bufferView": 2, "componentType": 5123, "count": 36, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": start, "byteLength": len(part)}
            for start, part in zip(offsets, parts, strict=False)
        ],
        "buffers": [{"byteLength": offsets[-1]}],
    }
    return {**document, **changes}, b"".join(parts)


def box_glb(**changes: Any) -> bytes:
    return glb(*box_document(**changes))


def box_obj(material_file: str = "box.mtl") -> bytes:
    """Quads, named from the end."""
    points, _, uv = box()
    lines = [f"mtllib {material_file}", "o box", "usemtl sides"]
    for side in range(6):
        for corner in range(4 * side, 4 * side + 4):
            lines.append("v {:g} {:g} {:g}".format(*points[corner]))
            lines.append(f"vt {uv[corner, 0]:.9g} {1.0 - uv[corner, 1]:.9g}")
        lines.append("f -4/-4 -3/-3 -2/-2 -1/-1")
    return ("\n".join(lines) + "\n").encode()


def box_mtl(picture: str = "colors.png") -> bytes:
    return f"newmtl sides\nKd 1 0 0\nmap_Kd {picture}\n".encode()


def zipped(files: Mapping[str, bytes], compressed: bool = False) -> bytes:
    stream = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def box_ply(binary: bool = True) -> bytes:
    """Vertex colours, and quads as faces."""
    points, quads, _ = box()
    colors = np.repeat([color for _, _, color in SIDES.values()], 4, axis=0)
    head = [
        "ply",
        f"format {'binary_little_endian' if binary else 'ascii'} 1.0",
        "element vertex 24",
        *(f"property float {axis}" for axis in "xyz"),
        *(f"property uchar {channel}" for channel in ("red", "green", "blue")),
        "element face 6",
        "property list uchar int vertex_indices",
        "end_header\n",
    ]
    text = "\n".join(head).encode()
    if binary:
        for point, color in zip(points, colors, strict=True):
            text += struct.pack("<3f3B", *point, *color)
        return text + b"".join(struct.pack("<B4i", 4, *quad) for quad in quads.tolist())
    rows = [" ".join(f"{x:g}" for x in (*p, *c)) for p, c in zip(points, colors, strict=True)]
    rows += [f"4 {' '.join(map(str, quad))}" for quad in quads.tolist()]
    return text + "\n".join(rows).encode() + b"\n"


def box_stl(
    binary: bool = True, size: tuple[float, float, float] = (1.0, 1.0, 1.0), header: bytes = b""
) -> bytes:
    points, quads, _ = box(size)
    corners = points[triangles(quads)]
    if binary:
        faces = b"".join(struct.pack("<12fH", 0, 0, 0, *face.reshape(-1), 0) for face in corners)
        return header.ljust(80, b"\0") + struct.pack("<I", len(corners)) + faces
    lines = ["solid box"]
    for face in corners:
        lines += ["facet normal 0 0 0", "outer loop"]
        lines += ["vertex {:g} {:g} {:g}".format(*corner) for corner in face]
        lines += ["endloop", "endfacet"]
    return ("\n".join([*lines, "endsolid box"]) + "\n").encode()
