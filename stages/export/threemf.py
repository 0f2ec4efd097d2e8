"""3MF files: a zip archive with the solid as XML, and its colours or texture.

After the 3MF Core Specification 1.3 and the Materials and Properties Extension 1.2. A reader that
does not know the extension, as most slicers, sees the plain solid.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Generator, Iterator

import numpy as np

from stages.export.model import Model

_CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
_MATERIAL = "http://schemas.microsoft.com/3dmanufacturing/material/2015/02"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_MODEL_PART, _TEXTURE_PART = "3D/3dmodel.model", "3D/Textures/color.png"
_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_TYPES = (
    f'{_HEAD}<Types xmlns="{_PACKAGE}/content-types">'
    '<Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="model" '
    'ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/>'
    '<Default Extension="png" ContentType="image/png"/></Types>'
)
_CHUNK = 1 << 16
"""Rows that are written at once."""
_DATE = (2020, 1, 1, 0, 0, 0)
"""Of every entry, so that the same mesh makes the same file."""
_TEXTURE, _COLORS, _OBJECT = 1, 2, 3


def three_mf(solid: Model) -> bytes:
    """The .3mf file of a closed model in millimetres, textured, with colours at its vertices, or
    plain."""
    buffer = io.BytesIO()
    textured = solid.uv is not None
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        _add(archive, "[Content_Types].xml", _TYPES.encode())
        _add(archive, "_rels/.rels", _relation(_MODEL_PART, "2013/01/3dmodel"))
        if textured:
            relation = _relation(_TEXTURE_PART, "2013/01/3dtexture")
            _add(archive, "3D/_rels/3dmodel.model.rels", relation)
            _add(archive, _TEXTURE_PART, solid.color_png, packed=True)
        with archive.open(_entry(_MODEL_PART), "w", force_zip64=True) as stream:
            for text in _document(solid):
                stream.write(text.encode())
    return buffer.getvalue()


def _entry(name: str, packed: bool = False) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED
    return entry


def _add(archive: zipfile.ZipFile, name: str, content: bytes, packed: bool = False) -> None:
    archive.writestr(_entry(name, packed), content)


def _relation(target: str, kind: str) -> bytes:
    return (
        f'{_HEAD}<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rel0" '
        f'Target="/{target}" Type="http://schemas.microsoft.com/3dmanufacturing/{kind}"/>'
        "</Relationships>"
    ).encode()


def _document(solid: Model) -> Iterator[str]:
    yield (
        f'{_HEAD}<model unit="millimeter" xml:lang="en-US" xmlns="{_CORE}" xmlns:m="{_MATERIAL}">\n'
        '<metadata name="Application">kiss3d-orchestrate</metadata>\n<resources>\n'
    )
    corners = None
    if solid.uv is not None:
        corners = yield from _coordinates(solid.uv)
    elif solid.colors is not None:
        corners = yield from _colors(solid.colors, solid.faces)
    default = "" if corners is None else f' pid="{_COLORS}" pindex="0"'
    yield f'<object id="{_OBJECT}" type="model"{default}><mesh><vertices>\n'
    # Nine digits give the float32 back exactly: what was closed stays closed.
    points = solid.vertices.astype(np.float32).astype(np.float64)
    yield from _rows('<vertex x="%.9g" y="%.9g" z="%.9g"/>\n', points)
    yield "</vertices><triangles>\n"
    if corners is None:
        yield from _rows('<triangle v1="%d" v2="%d" v3="%d"/>\n', solid.faces)
    else:
        template = '<triangle v1="%d" v2="%d" v3="%d" '
        template += f'pid="{_COLORS}" p1="%d" p2="%d" p3="%d"/>\n'
        yield from _rows(template, np.concatenate([solid.faces, corners], axis=1))
    yield (
        "</triangles></mesh></object>\n</resources>\n"
        f'<build><item objectid="{_OBJECT}"/></build>\n</model>\n'
    )


def _coordinates(uv: np.ndarray) -> Generator[str, None, np.ndarray]:
    """The texture's resources; returns (F, 3), which pair of coordinates each corner has."""
    pairs = np.ascontiguousarray(uv.reshape(-1, 2), np.float32)
    _, first, inverse = np.unique(
        pairs.view([("u", "<f4"), ("v", "<f4")])[:, 0], return_index=True, return_inverse=True
    )
    known = pairs[first].astype(np.float64)
    yield (
        f'<m:texture2d id="{_TEXTURE}" path="/{_TEXTURE_PART}" contenttype="image/png"/>\n'
        f'<m:texture2dgroup id="{_COLORS}" texid="{_TEXTURE}">\n'
    )
    upward = np.stack([known[:, 0], 1.0 - known[:, 1]], axis=1)
    yield from _rows('<m:tex2coord u="%.7g" v="%.7g"/>\n', upward)
    yield "</m:texture2dgroup>\n"
    return inverse.reshape(-1, 3)


def _colors(colors: np.ndarray, faces: np.ndarray) -> Generator[str, None, np.ndarray]:
    """The colours' resources; returns (F, 3), which of them each corner has."""
    known, inverse = np.unique(colors, axis=0, return_inverse=True)
    yield f'<m:colorgroup id="{_COLORS}">\n'
    yield from _rows('<m:color color="#%02X%02X%02XFF"/>\n', known)
    yield "</m:colorgroup>\n"
    return inverse.reshape(-1)[faces]


def _rows(template: str, rows: np.ndarray) -> Iterator[str]:
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        yield (template * len(part)) % tuple(part.ravel().tolist())
