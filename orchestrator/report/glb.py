"""A mesh file as the viewer wants it: binary glTF, with a camera in front of the mesh.

Layout and names are those of glTF 2.0, sections 3.6 to 3.10 and 4 (GLB). The file may come from
anybody: every size in it is held to the length that the file has.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from orchestrator.system.reading import json_data
from stages.contract.glb import glb_parts

_JSON, _BINARY = b"JSON", b"BIN\0"
_FIELD_OF_VIEW = math.radians(30.0)
_TURN, _LIFT = math.radians(25.0), math.radians(12.0)
"""Where the camera stands: to the side of the front, which is +z, and above it."""
_PICTURES = ("image/png", "image/jpeg")


@dataclass(frozen=True)
class Glb:
    """The two parts of a .glb file: its JSON document and its bytes."""

    document: dict[str, Any]
    binary: bytes

    @property
    def faces(self) -> int:
        """How many triangles its primitives have."""
        counts = (self._count(primitive.get("indices")) for primitive in self._primitives())
        return sum(counts) // 3

    @property
    def vertices(self) -> int:
        """How many positions they have: one that lies on a seam of the texture counts twice."""
        places = (primitive["attributes"]["POSITION"] for primitive in self._primitives())
        return sum(map(self._count, dict.fromkeys(places)))

    def texture(self) -> tuple[str, bytes] | None:
        """(MIME type, file) of the first picture that lies in the file; None: there is none.

        Raises ValueError where the document says what cannot be.
        """
        try:
            for image in self.document.get("images", []):
                if image.get("mimeType") in _PICTURES and "bufferView" in image:
                    view = self.document["bufferViews"][image["bufferView"]]
                    start = int(view.get("byteOffset", 0))
                    end = start + int(view["byteLength"])
                    if 0 <= start < end <= len(self.binary):
                        return str(image["mimeType"]), self.binary[start:end]
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"not a usable glTF document ({error!r})") from error
        return None

    def for_viewer(self) -> bytes:
        """The file anew: with a camera that sees all of the mesh, and materials that are no metal.

        A material that says nothing of metal is all metal by glTF, and nearly black without
        surroundings to mirror. Raises ValueError where the document says what cannot be.
        """
        try:
            document = {**self.document, **self._with_camera(), **self._without_metal()}
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError(f"not a usable glTF document ({error!r})") from error
        text = json.dumps(document, separators=(",", ":")).encode(errors="replace")
        return _packed(text + b" " * (-len(text) % 4), self.binary)

    def _with_camera(self) -> dict[str, Any]:
        """Cameras, nodes and scenes of the document, with this one camera."""
        low, high = self._bounds()
        centre = [(one + other) / 2 for one, other in zip(low, high, strict=True)]
        radius = max(math.dist(low, high) / 2, 1e-6)
        distance = 1.08 * radius / math.sin(_FIELD_OF_VIEW / 2)
        camera = {
            "type": "perspective",
            "perspective": {
                "yfov": _FIELD_OF_VIEW,
                "znear": distance / 100,
                "zfar": distance * 100,
            },
        }
        nodes = [
            {key: value for key, value in node.items() if key != "camera"}
            for node in self.document["nodes"]
        ]
        scenes = [dict(scene) for scene in self.document["scenes"]]
        shown = scenes[self.document.get("scene", 0)]
        shown["nodes"] = [*shown["nodes"], len(nodes)]
        nodes.append({"camera": 0, "matrix": _looking_at(centre, distance)})
        return {"cameras": [camera], "nodes": nodes, "scenes": scenes}

    def _without_metal(self) -> dict[str, Any]:
        """Materials and meshes of the document, each primitive with a material."""
        materials = [dict(material) for material in self.document.get("materials", [])]
        for material in materials:
            surface = {"metallicFactor": 0.0, **material.get("pbrMetallicRoughness", {})}
            material["pbrMetallicRoughness"] = surface
        materials.append({"pbrMetallicRoughness": {"metallicFactor": 0.0}})
        plain = len(materials) - 1
        meshes = [
            {**mesh, "primitives": [{"material": plain, **part} for part in mesh["primitives"]]}
            for mesh in self.document["meshes"]
        ]
        return {"materials": materials, "meshes": meshes}

    def _bounds(self) -> tuple[list[float], list[float]]:
        """Corners of the box around all positions, as the accessors state them; nodes that move
        their meshes are not looked at."""
        accessors = self.document["accessors"]
        boxes = [accessors[part["attributes"]["POSITION"]] for part in self._primitives()]
        low = [min(float(box["min"][axis]) for box in boxes) for axis in range(3)]
        high = [max(float(box["max"][axis]) for box in boxes) for axis in range(3)]
        if not all(map(math.isfinite, (*low, *high))):
            raise ValueError("its bounds are no numbers")
        return low, high

    def _primitives(self) -> Iterator[dict[str, Any]]:
        for mesh in self.document["meshes"]:
            yield from mesh["primitives"]

    def _count(self, accessor: int | None) -> int:
        return 0 if accessor is None else int(self.document["accessors"][accessor]["count"])


def read_glb(content: bytes) -> Glb:
    """The parts of a .glb file. Raises ValueError where it is none."""
    text, binary = glb_parts(content)
    document = json_data(text)
    if not isinstance(document, dict) or not document.get("meshes"):
        raise ValueError("a .glb file without a mesh")
    return Glb(document, binary or b"")


def _packed(text: bytes, binary: bytes) -> bytes:
    return b"".join(
        [
            struct.pack("<4sII", b"glTF", 2, 12 + 8 + len(text) + 8 + len(binary)),
            struct.pack("<I4s", len(text), _JSON),
            text,
            struct.pack("<I4s", len(binary), _BINARY),
            binary,
        ]
    )


def _looking_at(centre: list[float], distance: float) -> list[float]:
    """The (4, 4) matrix, column by column, of a camera that looks at `centre` along its -z."""
    back = (
        math.cos(_LIFT) * math.sin(_TURN),
        math.sin(_LIFT),
        math.cos(_LIFT) * math.cos(_TURN),
    )
    right = (math.cos(_TURN), 0.0, -math.sin(_TURN))
    up = (
        -math.sin(_LIFT) * math.sin(_TURN),
        math.cos(_LIFT),
        -math.sin(_LIFT) * math.cos(_TURN),
    )
    place = [one + distance * way for one, way in zip(centre, back, strict=True)]
    return [*right, 0.0, *up, 0.0, *back, 0.0, *place, 1.0]
