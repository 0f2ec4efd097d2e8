"""An ONNX network of one 1 x 1 convolution, written as protobuf bytes.

The field numbers are those of onnx.proto3; the `onnx` package itself is not a dependency.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

FLOAT = 1
"""TensorProto.DataType"""


def build_isnet(folder: Path, size: int = 1024, name: str = "isnet-general-use") -> Path:
    """A stand-in for isnet-general-use (or, with another size and name, u2net).

    Input (1, 3, size, size); first output 1 - mean of the channels before normalisation, up to a
    constant: dark is object. A second output, as the real ones have, is its negative.
    """
    path = folder / name / f"{name}.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(convolution_net((-1.0, -1.0, -1.0), size))
    return path


def convolution_net(weights: Sequence[float], size: int) -> bytes:
    """saliency = sum of weights * channels; inverse = -saliency."""
    values = struct.pack(f"<{len(weights)}f", *weights)
    kernel = b"".join(_number(1, extent) for extent in (1, len(weights), 1, 1))
    kernel += _number(2, FLOAT) + _text(8, "kernel") + _bytes(9, values)
    graph = _bytes(1, _node("Conv", ["img", "kernel"], ["saliency"]))
    graph += _bytes(1, _node("Neg", ["saliency"], ["inverse"]))
    graph += _text(2, "tiny") + _bytes(5, kernel)
    graph += _bytes(11, _tensor("img", (1, len(weights), size, size)))
    graph += _bytes(12, _tensor("saliency", (1, 1, size, size)))
    graph += _bytes(12, _tensor("inverse", (1, 1, size, size)))
    opset = _number(2, 17)
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, opset)


def _node(operator: str, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    names = b"".join(_text(1, name) for name in inputs)
    names += b"".join(_text(2, name) for name in outputs)
    return names + _text(4, operator)


def _tensor(name: str, shape: Sequence[int]) -> bytes:
    """A ValueInfoProto: name and type."""
    dimensions = b"".join(_bytes(1, _number(1, extent)) for extent in shape)
    tensor_type = _number(1, FLOAT) + _bytes(2, dimensions)
    return _text(1, name) + _bytes(2, _bytes(1, tensor_type))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
