"""Numbers of a glTF document: accessors, and the matrices of its nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stages.contract import BadInput

DTYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}


class Values:
    """Accessors by their numbers.

    buffer  gives a buffer's content by its number
    most    elements that an accessor may have
    """

    def __init__(
        self, document: Mapping[str, Any], buffer: Callable[[int], bytes], most: int
    ) -> None:
        self._document, self._buffer, self._most = document, buffer, most

    def view(self, number: int) -> memoryview:
        """The bytes of a buffer view. Raises ValueError for one beyond its buffer's end."""
        view = self._document["bufferViews"][number]
        if "EXT_meshopt_compression" in view.get("extensions", {}):
            raise BadInput(
                "the glTF needs meshopt compression, for which no decoder is built in",
                "Save it from its 3D program again, without compression.",
            )
        start, length = int(view.get("byteOffset", 0)), int(view["byteLength"])
        data = memoryview(self._buffer(view["buffer"]))
        if start < 0 or length < 0 or start + length > len(data):
            raise ValueError("a part of a buffer lies beyond its end")
        return data[start : start + length]

    def read(self, number: int, normalize: bool = True) -> np.ndarray:
        """(n, width) of an accessor ("Accessors"), integers as fractions where it says so.

        Without a buffer view they are zeros. Raises ValueError.
        """
        accessor = self._document["accessors"][number]
        count, width = int(accessor["count"]), WIDTHS[accessor["type"]]
        dtype = np.dtype(DTYPES[accessor["componentType"]])
        if not 0 <= count <= self._most:
            raise ValueError(f"an accessor claims {count:,} elements, too many")
        if "bufferView" in accessor:
            view = self._document["bufferViews"][accessor["bufferView"]]
            values = _strided(
                self.view(accessor["bufferView"]),
                int(accessor.get("byteOffset", 0)),
                int(view.get("byteStride", 0)),
                (count, width),
                dtype,
            )
        else:
            values = np.zeros((count, width), dtype)
        if "sparse" in accessor:
            values = self._replaced(values, accessor["sparse"], dtype)
        if accessor.get("normalized") and normalize and dtype.kind in "iu":
            # "Animations": the lowest of a signed type stands for -1 as the one above it does.
            return np.maximum(values.astype(np.float32) / np.iinfo(dtype).max, -1.0)
        return values

    def _replaced(
        self, values: np.ndarray, sparse: Mapping[str, Any], dtype: np.dtype
    ) -> np.ndarray:
        count = int(sparse["count"])
        if not 0 <= count <= len(values):
            raise ValueError("an accessor replaces more elements than it has")
        where, what = sparse["indices"], sparse["values"]
        rows = _strided(
            self.view(where["bufferView"]),
            int(where.get("byteOffset", 0)),
            0,
            (count, 1),
            np.dtype(DTYPES[where["componentType"]]),
        )
        new = _strided(
            self.view(what["bufferView"]),
            int(what.get("byteOffset", 0)),
            0,
            (count, values.shape[1]),
            dtype,
        )
        values = values.copy()
        values[rows[:, 0]] = new
        return values


def _strided(
    data: memoryview, start: int, stride: int, shape: tuple[int, int], dtype: np.dtype
) -> np.ndarray:
    count, width = shape
    size = width * dtype.itemsize
    stride = stride or size
    end = start + stride * (count - 1) + size if count else start
    if start < 0 or stride < size or end > len(data):
        raise ValueError("an accessor lies beyond the end of its buffer")
    rows: np.ndarray = np.ndarray(shape, dtype, data, start, (stride, dtype.itemsize))
    return rows


def matrix_of(node: Mapping[str, Any]) -> np.ndarray:
    """(4, 4) of a node ("Transformations"): its matrix, or translation x rotation x scale."""
    if "matrix" in node:
        matrix = np.array(node["matrix"], np.float64).reshape(4, 4).T
    else:
        matrix = np.eye(4)
        matrix[:3, :3] = _rotation(node.get("rotation", (0, 0, 0, 1))) * np.array(
            node.get("scale", (1, 1, 1)), np.float64
        )
        matrix[:3, 3] = node.get("translation", (0, 0, 0))
    if not np.isfinite(matrix).all():
        raise ValueError("a node stands where no number says")
    return matrix


def _rotation(quaternion: Any) -> np.ndarray:
    x, y, z, w = np.array(quaternion, np.float64) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
