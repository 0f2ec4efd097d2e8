"""Mesh files: binary glTF 2.0 and Wavefront OBJ, both with vertex colours and normals."""

from __future__ import annotations

import json
import struct
from typing import Any, Literal

import numpy as np

from stages.contract import Mesh
from stages.contract.srgb import srgb_to_linear

Axes = Literal["gltf", "reference"]
"""gltf: front towards +z as glTF asks, which is frame W; reference: turned half about y."""

FLOAT, UINT = 5126, 5125
ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963


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
    positions = turn(mesh.vertices.astype("<f4"), axes)
    arrays: list[tuple[np.ndarray, dict[str, Any]]] = [
        (
            positions,
            {
                "componentType": FLOAT,
                "type": "VEC3",
                "min": positions.min(axis=0).tolist(),
                "max": positions.max(axis=0).tolist(),
            },
        ),
        (turn(normals.astype("<f4"), axes), {"componentType": FLOAT, "type": "VEC3"}),
        (linear.astype("<f4"), {"componentType": FLOAT, "type": "VEC3"}),
        (mesh.faces.astype("<u4").reshape(-1), {"componentType": UINT, "type": "SCALAR"}),
    ]
    views, accessors, blob = [], [], bytearray()
    for index, (array, accessor) in enumerate(arrays):
        data = np.ascontiguousarray(array).tobytes()  # every one a multiple of 4 bytes long
        target = ELEMENT_ARRAY_BUFFER if accessor["type"] == "SCALAR" else ARRAY_BUFFER
        views.append(
            {"buffer": 0, "byteOffset": len(blob), "byteLength": len(data), "target": target}
        )
        accessors.append({"bufferView": index, "count": len(array), **accessor})
        blob += data
    primitive = {
        "attributes": {"POSITION": 0, "NORMAL": 1, "COLOR_0": 2},
        "indices": 3,
    }
    document = {
        "asset": {"version": "2.0", "generator": "kiss3d-orchestrate"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "name": "object"}],
        "meshes": [{"name": "object", "primitives": [primitive]}],
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


def _lines(template: str, rows: np.ndarray) -> str:
    return (template * len(rows)) % tuple(rows.ravel().tolist())


def _colors(mesh: Mesh) -> np.ndarray:
    if mesh.colors is None:
        raise ValueError("the mesh has no colours to export")
    return mesh.colors
