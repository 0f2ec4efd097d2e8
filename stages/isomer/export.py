"""Mesh files: binary glTF 2.0 and Wavefront OBJ, textured or with vertex colours, and PLY."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np

from stages.contract import Mesh
from stages.contract.artifacts import NORMAL_MAP, OBJ_MATERIAL, TEXTURE
from stages.contract.srgb import srgb_to_linear

Axes = Literal["gltf", "reference"]
"""gltf: front towards +z as glTF asks, which is frame W; reference: turned half about y."""

FLOAT, UINT = 5126, 5125
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
LINEAR, LINEAR_MIPMAP_LINEAR, CLAMP_TO_EDGE = 9729, 9987, 33071
SAMPLER = {
    "magFilter": LINEAR,
    "minFilter": LINEAR_MIPMAP_LINEAR,
    "wrapS": CLAMP_TO_EDGE,
    "wrapT": CLAMP_TO_EDGE,
}
MATERIAL = "object"
ROUGHNESS = 0.8
"""Nothing is of metal."""


class Textured(Protocol):
    """A mesh that is cut open along its seams, and its pictures: as `texture.make.Textured`."""

    @property
    def vertices(self) -> np.ndarray: ...
    @property
    def faces(self) -> np.ndarray: ...
    @property
    def normals(self) -> np.ndarray: ...
    @property
    def uv(self) -> np.ndarray: ...
    @property
    def color_png(self) -> bytes: ...
    @property
    def tangents(self) -> np.ndarray | None: ...
    @property
    def normal_png(self) -> bytes: ...


def turn(vectors: np.ndarray, axes: Axes) -> np.ndarray:
    """(V, 3) vectors of frame W in the axes of the file."""
    return vectors if axes == "gltf" else vectors * np.array((-1, 1, -1), vectors.dtype)


def glb(mesh: Mesh, normals: np.ndarray, axes: Axes = "gltf") -> bytes:
    """A .glb file: one mesh with colours at its vertices, and no material.

    mesh with colours; normals (V, 3) unit float. COLOR_0 is linear light by the glTF
    specification, so the sRGB colours are converted. It is stored as float32: 8 linear bits would
    leave only a handful of dark tones, and of 16 bits trimesh would keep the lower 8.

    Without a material each reader takes glTF's default one and shows the colours; beside one, and
    without texture coordinates, trimesh would show the material's white alone.
    """
    linear = srgb_to_linear(_colors(mesh) / 255.0)
    return _glb(mesh.vertices, mesh.faces, normals, {"COLOR_0": linear}, axes)


def textured_glb(mesh: Textured, axes: Axes = "gltf") -> bytes:
    """A .glb file: one mesh with a material whose pictures are in the file.

    Their texture coordinates start at the top left, as in glTF.
    """
    attributes = {"TEXCOORD_0": mesh.uv}
    pictures = [mesh.color_png]
    material: dict[str, Any] = {
        "name": MATERIAL,
        "pbrMetallicRoughness": {
            "baseColorTexture": {"index": 0},
            "metallicFactor": 0.0,
            "roughnessFactor": ROUGHNESS,
        },
    }
    if mesh.tangents is not None:
        along = turn(mesh.tangents[:, :3], axes)
        attributes["TANGENT"] = np.concatenate([along, mesh.tangents[:, 3:]], axis=1)
    if mesh.normal_png:
        pictures.append(mesh.normal_png)
        material["normalTexture"] = {"index": 1}
    return _glb(mesh.vertices, mesh.faces, mesh.normals, attributes, axes, material, pictures)


def _glb(
    vertices: np.ndarray,
    faces: np.ndarray,
    normals: np.ndarray,
    attributes: Mapping[str, np.ndarray],
    axes: Axes,
    material: Mapping[str, Any] | None = None,
    pictures: Sequence[bytes] = (),
) -> bytes:
    positions = turn(vertices.astype("<f4"), axes)
    arrays = {"POSITION": positions, "NORMAL": turn(normals.astype("<f4"), axes), **attributes}
    blob = bytearray()
    views: list[dict[str, int]] = []
    accessors: list[dict[str, Any]] = []

    def add(data: bytes, **more: int) -> int:
        """A view of the buffer that starts at a multiple of 4 bytes; returns its number."""
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": len(data), **more})
        blob.extend(data + bytes(-len(data) % 4))
        return len(views) - 1

    for array in arrays.values():
        data = np.ascontiguousarray(array, "<f4")
        kind = f"VEC{array.shape[1]}"
        view = add(data.tobytes(), target=ARRAY_BUFFER)
        accessors.append(
            {"bufferView": view, "componentType": FLOAT, "count": len(data), "type": kind}
        )
    accessors[0] |= {"min": positions.min(axis=0).tolist(), "max": positions.max(axis=0).tolist()}
    indices = faces.astype("<u4").reshape(-1)
    view = add(indices.tobytes(), target=ELEMENT_ARRAY_BUFFER)
    accessors.append(
        {"bufferView": view, "componentType": UINT, "count": len(indices), "type": "SCALAR"}
    )
    primitive: dict[str, Any] = {
        "attributes": {name: number for number, name in enumerate(arrays)},
        "indices": len(arrays),
    }
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": "kiss3d-orchestrate"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "object"}],
        "meshes": [{"name": "object", "primitives": [primitive]}],
    }
    if material is not None:
        primitive["material"] = 0
        document |= {
            "materials": [material],
            "samplers": [SAMPLER],
            "images": [{"bufferView": add(each), "mimeType": "image/png"} for each in pictures],
            "textures": [{"sampler": 0, "source": number} for number in range(len(pictures))],
        }
    document |= {
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(blob)}],
    }
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    return b"".join(
        [
            struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(blob)),
            struct.pack("<I4s", len(text), b"JSON"),
            text,
            struct.pack("<I4s", len(blob), b"BIN\0"),
            bytes(blob),
        ]
    )


def obj(mesh: Mesh, normals: np.ndarray, axes: Axes = "gltf") -> bytes:
    """A .obj file with `v x y z r g b` (colours sRGB in [0, 1]), `vn` and `f a//a b//b c//c`."""
    colors = _colors(mesh) / 255.0
    rows = np.concatenate([turn(mesh.vertices, axes), colors], axis=1)
    corners = np.repeat(mesh.faces.reshape(-1) + 1, 2)
    return "".join(
        [
            "# kiss3d-orchestrate: y up, vertex colours are sRGB\no object\n",
            _lines("v %.6f %.6f %.6f %.4f %.4f %.4f\n", rows),
            _lines("vn %.4f %.4f %.4f\n", turn(normals, axes)),
            _lines("f %d//%d %d//%d %d//%d\n", corners.reshape(-1, 6)),
        ]
    ).encode()


def textured_obj(
    mesh: Textured, axes: Axes = "gltf", material_file: str = OBJ_MATERIAL.filename
) -> bytes:
    """A .obj file with `v x y z`, `vt u v` (from the bottom left), `vn` and `f a/a/a b/b/b c/c/c`,
    which names `material_file`, the .mtl file of `material`."""
    upward = np.stack([mesh.uv[:, 0], 1.0 - mesh.uv[:, 1]], axis=1)
    corners = np.repeat(mesh.faces.reshape(-1) + 1, 3)
    return "".join(
        [
            f"# kiss3d-orchestrate: y up\nmtllib {material_file}\no object\n",
            _lines("v %.6f %.6f %.6f\n", turn(mesh.vertices, axes)),
            _lines("vt %.6f %.6f\n", upward),
            _lines("vn %.4f %.4f %.4f\n", turn(mesh.normals, axes)),
            f"usemtl {MATERIAL}\n",
            _lines("f %d/%d/%d %d/%d/%d %d/%d/%d\n", corners.reshape(-1, 9)),
        ]
    ).encode()


def material(
    normal_map: bool,
    color_file: str = TEXTURE.filename,
    normal_file: str = NORMAL_MAP.filename,
) -> bytes:
    """The .mtl file of `textured_obj`: no highlights, and the pictures by their names beside it."""
    lines = [
        f"newmtl {MATERIAL}",
        "Ka 1 1 1",
        "Kd 1 1 1",
        "Ks 0 0 0",
        "illum 1",
        "Pm 0",
        f"Pr {ROUGHNESS}",
        f"map_Kd {color_file}",
    ]
    if normal_map:
        lines.append(f"norm {normal_file}")
    return ("\n".join(lines) + "\n").encode()


def ply(mesh: Mesh, normals: np.ndarray, axes: Axes = "gltf") -> bytes:
    """A binary .ply file with normals and sRGB colours at the vertices."""
    fields = [(name, "<f4") for name in ("x", "y", "z", "nx", "ny", "nz")]
    fields += [(name, "u1") for name in ("red", "green", "blue")]
    rows = np.empty(len(mesh.vertices), fields)
    values = [*turn(mesh.vertices, axes).T, *turn(normals, axes).T, *_colors(mesh).T]
    for (name, _), column in zip(fields, values, strict=True):
        rows[name] = column
    corners = np.empty(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    corners["count"], corners["corners"] = 3, mesh.faces
    head = ["ply", "format binary_little_endian 1.0", "comment kiss3d-orchestrate: y up"]
    head.append(f"element vertex {len(rows)}")
    head += [f"property {'float' if kind == '<f4' else 'uchar'} {name}" for name, kind in fields]
    head += [f"element face {len(corners)}", "property list uchar int vertex_indices", "end_header"]
    return ("\n".join(head) + "\n").encode() + rows.tobytes() + corners.tobytes()


def _lines(template: str, rows: np.ndarray) -> str:
    return (template * len(rows)) % tuple(rows.ravel().tolist())


def _colors(mesh: Mesh) -> np.ndarray:
    if mesh.colors is None:
        raise ValueError("the mesh has no colours to export")
    return mesh.colors
