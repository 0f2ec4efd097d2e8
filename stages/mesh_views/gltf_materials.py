"""Materials of a glTF document and their pictures ("Materials", "Texture Data")."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import numpy as np

from stages.contract.mesh_files import color_texture, image_of, is_data
from stages.mesh_views.given import Files
from stages.mesh_views.gltf_values import Values
from stages.mesh_views.surface import Material
from stages.mesh_views.told import Told

_WRAPS = {10497: "repeat", 33071: "clamp", 33648: "mirror"}


class Materials:
    """Materials by their numbers; each is read once. Raises as `read_gltf`."""

    def __init__(
        self, document: Mapping[str, Any], values: Values, beside: Files, told: Told
    ) -> None:
        self._document, self._values, self._beside, self._told = document, values, beside, told
        self._known: dict[int, Material] = {}

    def of(self, number: int | None) -> tuple[Material, int, np.ndarray]:
        """A material, the set of texture coordinates of its picture, and their transform."""
        if number is None:
            return Material(stated=False), 0, np.eye(3)
        told = self._document["materials"][number]
        info = color_texture(told)
        moved = info.get("extensions", {}).get("KHR_texture_transform", {})
        channel = int(moved.get("texCoord", info.get("texCoord", 0)))
        if number not in self._known:
            self._known[number] = self._described(told, info)
        return self._known[number], channel, _transform(moved)

    def _described(self, told: Mapping[str, Any], info: Mapping[str, Any]) -> Material:
        older = told.get("extensions", {}).get("KHR_materials_pbrSpecularGlossiness")
        if older is None:
            factor = told.get("pbrMetallicRoughness", {}).get("baseColorFactor", (1, 1, 1, 1))
        else:
            factor = older.get("diffuseFactor", (1, 1, 1, 1))
        red, green, blue = (min(max(float(value), 0.0), 1.0) for value in factor[:3])
        alpha = {"MASK": "mask", "BLEND": "blend"}.get(told.get("alphaMode", ""), "opaque")
        picture, name, wrap = b"", "", ("repeat", "repeat")
        if "index" in info:
            picture, name, wrap = self._picture(self._document["textures"][info["index"]])
        return Material(
            (red, green, blue),
            picture,
            name,
            alpha,  # type: ignore[arg-type]
            float(told.get("alphaCutoff", 0.5)),
            wrap,
        )

    def _picture(self, texture: Mapping[str, Any]) -> tuple[bytes, str, tuple[str, str]]:
        wrap = ("repeat", "repeat")
        if "sampler" in texture:
            sampler = self._document["samplers"][texture["sampler"]]
            s, t = (_WRAPS.get(sampler.get(key, 10497), "repeat") for key in ("wrapS", "wrapT"))
            wrap = (s, t)
        source = image_of(texture)
        if source is None:
            self._told.once(
                "a texture is only there in a format for GPUs (KTX2, DDS), which is not read: "
                "its parts have one colour",
                degraded=True,
            )
            return b"", "", wrap
        image = self._document["images"][source]
        name = str(image.get("name") or image.get("uri") or f"image {source}")[:80]
        if "bufferView" in image:
            return bytes(self._values.view(image["bufferView"])), name, wrap
        uri = str(image["uri"])
        if is_data(uri):
            return from_data(uri), f"image {source}", wrap
        return self._told.file(self._beside, unquote(uri)), name, wrap


def from_data(uri: str) -> bytes:
    """What a `data:` URI holds; only base64, which is what glTF has."""
    head, comma, body = uri.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise ValueError("a data: URI is not in base64")
    return base64.b64decode(body)


def _transform(moved: Mapping[str, Any]) -> np.ndarray:
    """(3, 3) of KHR_texture_transform: translation x rotation x scale."""
    (u, v), (across, down) = moved.get("offset", (0.0, 0.0)), moved.get("scale", (1.0, 1.0))
    cos, sin = np.cos(moved.get("rotation", 0.0)), np.sin(moved.get("rotation", 0.0))
    return np.array(
        [[cos * across, sin * down, u], [-sin * across, cos * down, v], [0.0, 0.0, 1.0]]
    )
