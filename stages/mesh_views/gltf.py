"""glTF 2.0, binary or JSON: the triangles of its scene with their materials.

Written after the Khronos specification, section by section as the comments name them. What a
document claims is held to the bytes that are there, and to the limit of faces, before any memory is
taken for it. Skinned meshes stand as their joints do; animations and morph targets are not looked
at.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

import numpy as np

from stages.contract import BadInput
from stages.contract.glb import glb_parts
from stages.contract.mesh_files import (
    gltf_document,
    is_data,
)
from stages.mesh_views.given import Files
from stages.mesh_views.gltf_materials import Materials, from_data
from stages.mesh_views.gltf_values import Values, matrix_of
from stages.mesh_views.surface import Part
from stages.mesh_views.told import Told, spelled

MOST_NODES = 100_000
TRIANGLES, STRIP, FAN = 4, 5, 6
UNREADABLE = {
    "KHR_draco_mesh_compression": "Draco compression, for which no decoder is built in",
    "EXT_meshopt_compression": "meshopt compression, for which no decoder is built in",
    "KHR_meshopt_compression": "meshopt compression, for which no decoder is built in",
    "EXT_mesh_gpu_instancing": "instances for the GPU, which are not read",
}
READABLE = ("KHR_materials_", "KHR_lights_", "KHR_texture_transform", "KHR_mesh_quantization")
"""Beginnings of extensions that a document may require."""
_TEXTURES = ("EXT_texture_webp", "KHR_texture_basisu", "MSFT_texture_dds")
_SAVE = "Save it from its 3D program again, without compression; Blender can read and write both."


def read_gltf(
    content: bytes, binary: bool, beside: Files, max_faces: int, told: Told
) -> list[Part]:
    """Parts in the scene's axes, y up. Raises BadInput, and for a damaged document whatever Python
    raises: ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error."""
    document, blob = _glb(content) if binary else (gltf_document(content), None)
    _check_version(document)
    _check_extensions(document)
    reader = _Reader(document, blob, beside, max_faces, told)
    return list(reader.parts())


def _glb(content: bytes) -> tuple[dict[str, Any], bytes | None]:
    """JSON and binary chunk ("GLB File Format Specification")."""
    magic, version, _ = struct.unpack_from("<4sII", content)
    if magic != b"glTF" or version != 2:
        raise BadInput(f"the GLB file is of version {version}; only version 2 is read", _SAVE)
    text, binary = glb_parts(content)
    return gltf_document(text), binary


def _check_version(document: Mapping[str, Any]) -> None:
    version = str(document["asset"]["version"])
    if version.partition(".")[0] != "2":
        raise BadInput(f"the glTF is of version {spelled(version[:20])}; only 2 is read", _SAVE)


def _check_extensions(document: Mapping[str, Any]) -> None:
    """Name what is missing for a document that requires it."""
    for name in map(str, document.get("extensionsRequired", [])):
        if name in UNREADABLE:
            raise BadInput(f"the glTF needs {UNREADABLE[name]}", _SAVE)
        if not name.startswith(READABLE) and name not in _TEXTURES:
            raise BadInput(
                f"the glTF needs the extension {spelled(name[:80])}, which is not read", _SAVE
            )


class _Reader:
    def __init__(
        self,
        document: Mapping[str, Any],
        blob: bytes | None,
        beside: Files,
        max_faces: int,
        told: Told,
    ) -> None:
        self._document, self._beside, self._told = document, beside, told
        self._max_faces = max_faces
        self._blob = blob
        self._buffers: dict[int, bytes] = {}
        self._values = Values(document, self._buffer, 3 * max_faces)
        self._materials = Materials(document, self._values, beside, told)
        self._world: dict[int, np.ndarray] = {}

    def parts(self) -> Iterator[Part]:
        nodes = self._document.get("nodes", [])
        if not nodes:  # "Scenes": a document without is a library of meshes
            self._count_faces([(mesh, 1) for mesh in self._document.get("meshes", [])])
            for mesh in self._document.get("meshes", []):
                yield from self._mesh(mesh, np.eye(4), None)
            return
        self._walk(nodes)
        shown = [number for number in self._world if "mesh" in nodes[number]]
        meshes = self._document["meshes"]
        self._count_faces([(meshes[nodes[number]["mesh"]], 1) for number in shown])
        for number in shown:
            node = nodes[number]
            skin = self._document["skins"][node["skin"]] if "skin" in node else None
            yield from self._mesh(meshes[node["mesh"]], self._world[number], skin)

    def _walk(self, nodes: list[Mapping[str, Any]]) -> None:
        """World matrices of the scene's nodes ("Node Hierarchy": each has one parent at most)."""
        if len(nodes) > MOST_NODES:
            raise BadInput(f"the glTF has {len(nodes):,} nodes, more than {MOST_NODES:,}", _SAVE)
        scenes = self._document.get("scenes", [])
        if scenes:
            roots = scenes[self._document.get("scene", 0)].get("nodes", [])
        else:
            children = {child for node in nodes for child in node.get("children", [])}
            roots = [number for number in range(len(nodes)) if number not in children]
        waiting = [(number, np.eye(4)) for number in roots]
        while waiting:
            number, above = waiting.pop()
            if number in self._world:
                raise ValueError(f"node {number} stands in the scene twice")
            self._world[number] = above @ matrix_of(nodes[number])
            waiting += [(child, self._world[number]) for child in nodes[number].get("children", [])]

    def _count_faces(self, meshes: list[tuple[Mapping[str, Any], int]]) -> None:
        accessors = self._document.get("accessors", [])
        total = points = 0
        for mesh, times in meshes:
            for primitive in mesh["primitives"]:
                of_points = int(accessors[primitive["attributes"]["POSITION"]]["count"])
                number = primitive.get("indices")
                count = of_points if number is None else int(accessors[number]["count"])
                each = 3 if primitive.get("mode", TRIANGLES) == TRIANGLES else 1
                total += times * (count // each)
                points += times * of_points
        if total > self._max_faces or points > 3 * self._max_faces:
            raise BadInput(
                f"the mesh has {total:,} faces and {points:,} vertices, and the limit is "
                f"{self._max_faces:,} faces",
                "Reduce it in a 3D program, or raise the mesh_views param max_faces.",
            )

    def _mesh(
        self, mesh: Mapping[str, Any], world: np.ndarray, skin: Mapping[str, Any] | None
    ) -> Iterator[Part]:
        for primitive in mesh["primitives"]:
            for name in ("KHR_draco_mesh_compression",):
                if name in primitive.get("extensions", {}) and not self._has_plain(primitive):
                    raise BadInput(f"the glTF needs {UNREADABLE[name]}", _SAVE)
            mode = primitive.get("mode", TRIANGLES)
            if mode not in (TRIANGLES, STRIP, FAN):
                self._told.once("points and lines of the mesh are left out")
                continue
            yield self._part(primitive, mode, world, skin)

    def _has_plain(self, primitive: Mapping[str, Any]) -> bool:
        """Whether the values are there without Draco too."""
        accessor = self._document["accessors"][primitive["attributes"]["POSITION"]]
        return "bufferView" in accessor

    def _part(
        self,
        primitive: Mapping[str, Any],
        mode: int,
        world: np.ndarray,
        skin: Mapping[str, Any] | None,
    ) -> Part:
        attributes, read = primitive["attributes"], self._values.read
        points = read(attributes["POSITION"]).astype(np.float64)
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError("positions have not three coordinates")
        row = np.arange(len(points))
        if "indices" in primitive:
            row = read(primitive["indices"], normalize=False).reshape(-1).astype(np.int64)
        corners = _triangles(row, mode)
        if corners.size and corners.max() >= len(points):
            raise ValueError("an index names a vertex that is not there")
        turn = world[:3, :3]
        if skin is not None and "JOINTS_0" in attributes and "WEIGHTS_0" in attributes:
            points, turn = self._skinned(points, attributes, skin), np.eye(3)
        else:
            points = points @ world[:3, :3].T + world[:3, 3]
        normals = colors = uv = None
        if "NORMAL" in attributes and skin is None and np.linalg.det(turn) != 0.0:
            normals = read(attributes["NORMAL"]).astype(np.float64) @ np.linalg.inv(turn)
            normals = normals[corners]
        if np.linalg.det(turn) < 0.0:  # "Instantiation": a mirror turns the winding round
            corners = corners[:, ::-1]
            normals = None if normals is None else normals[:, ::-1]
        material, channel, transform = self._materials.of(primitive.get("material"))
        if "COLOR_0" in attributes:
            colors = np.clip(read(attributes["COLOR_0"])[:, :3], 0.0, 1.0)[corners]
        if f"TEXCOORD_{channel}" in attributes:
            given = read(attributes[f"TEXCOORD_{channel}"]).astype(np.float64)
            uv = (given @ transform[:2, :2].T + transform[:2, 2])[corners]
        return Part(points, corners, material, uv, colors, normals)

    def _skinned(
        self, points: np.ndarray, attributes: Mapping[str, int], skin: Mapping[str, Any]
    ) -> np.ndarray:
        """ "Skins": a vertex is the weighted mean of where its joints carry it."""
        joints = skin["joints"]
        matrices = np.stack([self._world.get(joint, np.eye(4)) for joint in joints])
        if "inverseBindMatrices" in skin:
            inverse = self._values.read(skin["inverseBindMatrices"]).reshape(-1, 4, 4)
            matrices = matrices @ inverse[: len(joints)].transpose(0, 2, 1)
        carried = np.zeros_like(points)
        total = np.zeros((len(points), 1))
        for number in range(8):
            if f"JOINTS_{number}" not in attributes or f"WEIGHTS_{number}" not in attributes:
                break
            joint = self._values.read(attributes[f"JOINTS_{number}"], normalize=False)
            weight = self._values.read(attributes[f"WEIGHTS_{number}"]).astype(np.float64)
            for column in range(4):
                matrix = matrices[joint[:, column].astype(np.int64)]
                share = weight[:, column : column + 1]
                at = np.einsum("vij,vj->vi", matrix[:, :3, :3], points) + matrix[:, :3, 3]
                carried += share * at
                total += share
        return np.where(total > 0.0, carried / np.where(total > 0.0, total, 1.0), points)

    def _buffer(self, number: int) -> bytes:
        if number not in self._buffers:
            buffer = self._document["buffers"][number]
            uri = buffer.get("uri")
            if uri is None:
                if self._blob is None or number != 0:
                    raise ValueError(f"its buffer {number} is not in it")
                data = self._blob
            elif is_data(uri):
                data = from_data(uri)
            else:
                data = self._told.needed(self._beside, unquote(uri))
            if len(data) < int(buffer["byteLength"]):
                raise ValueError("a buffer is shorter than it says")
            self._buffers[number] = data
        return self._buffers[number]


def _triangles(row: np.ndarray, mode: int) -> np.ndarray:
    """(F, 3) of a row of vertices ("Topology Types")."""
    if mode == TRIANGLES:
        return row[: len(row) // 3 * 3].reshape(-1, 3)
    if len(row) < 3:
        return np.zeros((0, 3), np.int64)
    one, two, three = row[:-2], row[1:-1], row[2:]
    if mode == FAN:
        return np.stack([np.full_like(two, row[0]), two, three], axis=1)
    odd = (np.arange(len(one)) % 2 == 1)[:, None]
    return np.where(odd, np.stack([two, one, three], 1), np.stack([one, two, three], 1))
