"""PLY and STL, which trimesh parses. What their headers claim is held to their bytes before."""

from __future__ import annotations

import io
import re
import struct
from typing import Any

import numpy as np

from stages.contract import BadInput
from stages.contract.srgb import srgb_to_linear
from stages.mesh_views.given import Files
from stages.mesh_views.surface import Material, Part
from stages.mesh_views.told import Told

_ELEMENT = re.compile(rb"^element[ \t]+(\w+)[ \t]+(\d{1,18})[ \t]*\r?$", re.MULTILINE)
_TEXTURE = re.compile(rb"^comment[ \t]+TextureFile[ \t]+([^\r\n]+)", re.MULTILINE | re.IGNORECASE)
_HEADER = 1 << 20
_STL_HEADER, _STL_FACE = 84, 50


def read_ply(content: bytes, beside: Files, max_faces: int, told: Told) -> list[Part]:
    """One part. Raises BadInput, and for a damaged file whatever trimesh raises."""
    end = content.find(b"end_header", 0, _HEADER)
    if end < 0:
        raise ValueError("its header has no end")
    header = content[:end]
    counts = {name: int(number) for name, number in _ELEMENT.findall(header)}
    _check(counts.get(b"face", 0), counts.get(b"vertex", 0), max_faces)
    # A binary element takes a byte at the least, one of text two.
    if sum(counts.values()) > len(content):
        raise ValueError(f"it has {len(content):,} bytes for {sum(counts.values()):,} elements")
    if not counts.get(b"face"):
        raise BadInput("the PLY file has no faces", "Point clouds are not meshes.")
    loaded = _loaded(content, "ply", beside)
    points, corners = _arrays(loaded, max_faces)
    visual, colors, uv, material = loaded.visual, None, None, Material(stated=False)
    if visual.kind == "vertex":
        colors = _linear(visual.vertex_colors)[corners]
    elif visual.kind == "face":
        colors = np.repeat(_linear(visual.face_colors)[:, None], 3, axis=1)
    elif visual.kind == "texture" and visual.uv is not None and len(visual.uv) == len(points):
        uv = np.asarray(visual.uv, np.float64)[corners] * (1.0, -1.0) + (0.0, 1.0)
        if named := _TEXTURE.search(header):
            name = named.group(1).decode("utf-8", "replace").strip()
            if picture := told.file(beside, name):
                material = Material(picture=picture, name=name[:80], alpha="blend")
    return [Part(points, corners, material, uv, colors)]


def read_stl(content: bytes, max_faces: int) -> list[Part]:
    """One part without colours. Raises as `read_ply`."""
    faces = 0
    if len(content) >= _STL_HEADER:
        (faces,) = struct.unpack_from("<I", content, 80)
    if len(content) != _STL_HEADER + _STL_FACE * faces:
        faces = content.count(b"facet") // 2  # of text: "facet" and "endfacet"
    _check(faces, 0, max_faces)
    points, corners = _arrays(_loaded(content, "stl", Files({})), max_faces)
    return [Part(points, corners, Material(stated=False))]


def _check(faces: int, vertices: int, max_faces: int) -> None:
    if faces > max_faces or vertices > 3 * max_faces:
        raise BadInput(
            f"the mesh has {faces:,} faces and {vertices:,} vertices, and the limit is "
            f"{max_faces:,} faces",
            "Reduce it in a 3D program, or raise the mesh_views param max_faces.",
        )


class _Resolver:
    """What trimesh may ask for: the files that came along."""

    def __init__(self, beside: Files) -> None:
        self._beside = beside

    def get(self, name: str) -> bytes:
        found = self._beside.find(str(name))
        if found is None:
            raise FileNotFoundError(name)
        return found

    def __getitem__(self, name: str) -> bytes:
        return self.get(name)

    def keys(self) -> list[str]:
        return list(self._beside.content)


def _loaded(content: bytes, kind: str, beside: Files) -> Any:
    import trimesh

    resolver: Any = _Resolver(beside)
    return trimesh.load(
        io.BytesIO(content), file_type=kind, resolver=resolver, force="mesh", process=False
    )


def _arrays(loaded: Any, max_faces: int) -> tuple[np.ndarray, np.ndarray]:
    points = np.asarray(loaded.vertices, np.float64).reshape(-1, 3)
    corners = np.asarray(loaded.faces, np.int64).reshape(-1, 3)
    _check(len(corners), 0, max_faces)
    if not len(corners):
        raise BadInput("the mesh has no faces", "Point clouds and lines are not meshes.")
    if corners.min() < 0 or corners.max() >= len(points):
        raise ValueError("a face names a vertex that is not there")
    return points, corners


def _linear(colors: Any) -> np.ndarray:
    """(n, 3) linear light of (n, 4) uint8 sRGB."""
    return srgb_to_linear(np.asarray(colors)[:, :3] / 255.0)
