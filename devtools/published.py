"""Sizes of files as they are published, worked out from names, shapes and dtypes of their tensors.

A network that is made on the meta device takes no memory, so this is done at full size. A size that
is right to the byte holds our networks' names, shapes and dtypes to those of the real file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch

Tensors = Mapping[str, tuple[tuple[int, ...], str]]
"""Name -> shape, and dtype as safetensors calls it."""

_BYTES = {"F32": 4, "BF16": 2, "F16": 2, "I64": 8, "F8_E4M3": 1}
_ORDER = ("I64", "F32", "BF16", "F16", "F8_E4M3")
"""safetensors writes the tensors of the widest dtype first, and equal ones by name."""


def tensors_of(
    model: torch.nn.Module, dtype: str, renamed: Callable[[str], str] = str, drop: str = ""
) -> Tensors:
    """Those of a model, saved in one dtype; `drop`: a tied one, which is saved once."""
    return {
        renamed(name): (tuple(tensor.shape), dtype)
        for name, tensor in model.state_dict().items()
        if name != drop
    }


def prefixed(prefix: str) -> Callable[[str], str]:
    """Names as older transformers have them, whatever today's leave out."""
    return lambda name: prefix + name.removeprefix(prefix)


def safetensors_size(tensors: Tensors) -> int:
    """Bytes of a .safetensors file: its header, as libraries write it, and its tensors."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (shape, dtype) in sorted(
        tensors.items(), key=lambda item: (_ORDER.index(item[1][1]), item[0])
    ):
        begin, end = end, end + math.prod(shape) * _BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"))
    return 8 + _aligned(len(text), 8) + end


def gguf_size(shapes: Mapping[str, tuple[int, ...]], kept: tuple[str, ...]) -> int:
    """Bytes of a GGUF file in Q8_0 with vectors, and matrices whose names start so, in 16 bits.

    Format: ggml's docs/gguf.md. Three settings: architecture, file type, quantization version.
    """
    texts = sum(8 + len(key) + 4 for key in ("general.architecture", *_GGUF_NUMBERS))
    header = 24 + texts + 8 + len("flux") + 4 * len(_GGUF_NUMBERS)
    data = 0
    for name, shape in shapes.items():
        header += 8 + len(name) + 4 + 8 * len(shape) + 4 + 8
        whole = len(shape) == 1 or name.startswith(kept)
        numbers = math.prod(shape)
        data += _aligned(2 * numbers if whole else numbers // 32 * 34, 32)
    return _aligned(header, 32) + data


_GGUF_NUMBERS = ("general.file_type", "general.quantization_version")


def _aligned(size: int, to: int) -> int:
    return -(-size // to) * to
