"""Wavefront OBJ with its materials.

Colours on `v` lines and in `Kd` are sRGB, as the programs that write them have it; `map_Kd` takes
the place of `Kd`, as in the reference. Other maps, `d`, lines, points and curves are left out.
"""

from __future__ import annotations

import itertools
import os
import re
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from stages.contract import BadInput
from stages.contract.mesh_files import libraries, picture_name, text_of
from stages.contract.srgb import srgb_to_linear
from stages.mesh_views.given import Files
from stages.mesh_views.surface import Material, Part
from stages.mesh_views.told import Told

_STATEMENT = re.compile(rb"^[ \t]*(newmtl|Kd|map_Kd)[ \t]+([^\r\n]+)", re.MULTILINE | re.IGNORECASE)
NOTHING = -1
"""In place of a number of a texture coordinate or normal that a corner does not have."""


@dataclass
class _Lines:
    """What the lines of a file said, in their order. Corners are (v, vt, vn), from 0."""

    points: list[list[float]] = field(default_factory=list)
    colors: list[list[float]] = field(default_factory=list)
    uv: list[list[float]] = field(default_factory=list)
    normals: list[list[float]] = field(default_factory=list)
    corners: dict[bytes, list[tuple[int, int, int]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Three of them a triangle, by material."""


def read_obj(content: bytes, beside: Files, max_faces: int, told: Told) -> list[Part]:
    """Parts as the file has them. Raises BadInput, and ValueError or IndexError where it is
    damaged."""
    lines = _lines(content, max_faces)
    materials: dict[str, Material] = {}
    for library in libraries(content):
        text = told.file(beside, library)
        below = os.path.dirname(library.replace("\\", "/"))
        materials |= _materials(text, beside, below, told)
    points = _rows(lines.points, 3)
    colors = None
    if len(lines.colors) == len(points) and len(points):
        colors = srgb_to_linear(_rows(lines.colors, 3))
    return [
        _part(lines, points, colors, np.array(corners), materials.get(text_of(name)))
        for name, corners in lines.corners.items()
    ]


def _lines(content: bytes, max_faces: int) -> _Lines:
    found = _Lines()
    triangles = 0
    current = found.corners[b""]
    for line in content.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ").splitlines():
        words = line.split()
        if not words:
            continue
        word = words[0]
        if word == b"v":
            numbers = [float(each) for each in words[1:]]
            found.points.append(numbers[:3])
            if len(numbers) >= 6:  # x y z r g b, of some programs x y z w r g b
                found.colors.append(numbers[-3:])
        elif word == b"vt":
            found.uv.append([float(each) for each in words[1:3]])
        elif word == b"vn":
            found.normals.append([float(each) for each in words[1:4]])
        elif word == b"f":
            triangles += len(words) - 3
            if triangles > max_faces or len(found.points) > 3 * max_faces:
                raise BadInput(
                    f"the mesh has more than {max_faces:,} faces",
                    "Reduce it in a 3D program, or raise the mesh_views param max_faces.",
                )
            polygon = [_corner(each, found) for each in words[1:]]
            for one, two in itertools.pairwise(polygon[1:]):
                current += (polygon[0], one, two)
        elif word == b"usemtl":
            current = found.corners[line.strip()[6:].strip()]
    return found


def _corner(word: bytes, found: _Lines) -> tuple[int, int, int]:
    """ "3/1/2", "3//2", "3/1" or "3", from 1, or from the end where negative."""
    parts = word.split(b"/")
    v = _index(parts[0], len(found.points))
    vt = _index(parts[1], len(found.uv)) if len(parts) > 1 and parts[1] else NOTHING
    vn = _index(parts[2], len(found.normals)) if len(parts) > 2 and parts[2] else NOTHING
    return v, vt, vn


def _index(word: bytes, count: int) -> int:
    number = int(word)
    found = number - 1 if number > 0 else count + number
    if number == 0 or found < 0:
        raise ValueError(f"a face names number {number}, which is not there")
    return found


def _rows(values: list[list[float]], width: int) -> np.ndarray:
    if any(len(row) != width for row in values):
        raise ValueError(f"a line has not {width} numbers")
    return np.array(values, np.float64).reshape(-1, width)


def _part(
    lines: _Lines,
    points: np.ndarray,
    colors: np.ndarray | None,
    corners: np.ndarray,
    material: Material | None,
) -> Part:
    v, vt, vn = corners.reshape(-1, 3, 3).astype(np.int64).transpose(2, 0, 1)
    if v.size and v.max() >= len(points):
        raise ValueError("a face names a vertex that is not there")
    uv = normals = None
    if lines.uv and v.size and not (vt == NOTHING).any():
        upward = np.array([row[:2] if len(row) > 1 else [row[0], 0.0] for row in lines.uv])
        uv = upward[vt] * (1.0, -1.0) + (0.0, 1.0)
    if lines.normals and v.size and not (vn == NOTHING).any():
        normals = _rows(lines.normals, 3)[vn]
    if material is None:
        material = Material(stated=False)
    return Part(points, v, material, uv, None if colors is None else colors[v], normals)


def _materials(text: bytes, beside: Files, below: str, told: Told) -> dict[str, Material]:
    """By name. below: the folder of the .mtl file, seen from the mesh's."""
    found: dict[str, Material] = {}
    name = ""
    for match in _STATEMENT.finditer(text):
        word, rest = match.group(1).lower(), match.group(2)
        if word == b"newmtl":
            name = text_of(rest)
            found[name] = Material()
        elif word == b"kd" and not found.get(name, Material()).picture:
            try:
                srgb = [float(each) for each in rest.split()[:3]]
            except ValueError:
                continue  # "Kd spectral ...", which nobody writes
            if len(srgb) == 3 and np.isfinite(srgb).all():
                red, green, blue = srgb_to_linear(np.array(srgb)).tolist()
                found[name] = Material((red, green, blue))
        elif word == b"map_kd":
            file = picture_name(text_of(rest))
            if picture := told.file(beside, file, below):
                found[name] = Material(picture=picture, name=file[:80], alpha="blend")
    return found
