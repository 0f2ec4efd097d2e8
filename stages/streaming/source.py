"""Safetensors files as byte ranges: which bytes of which file are which tensor.

The header is read and checked here instead of through the library because the library hands out
tensors, mapped or copied, and a streamer wants offsets: it reads straight into pinned memory.
Format: https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.contract import StageError

ITEM_SIZES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "F32": 4,
    "I64": 8,
    "F64": 8,
}
"""Bytes of one number, by safetensors' names."""
_LARGEST_HEADER = 100_000_000
"""The format's own limit."""


@dataclass(frozen=True)
class TensorRange:
    """A tensor in a file. offset, nbytes: from the file's start; dtype: safetensors' name."""

    path: Path
    offset: int
    nbytes: int
    dtype: str
    shape: tuple[int, ...]

    def rows(self, start: int, stop: int) -> TensorRange:
        """Rows start..stop-1, as a range of their own (fused q, k, v are split so)."""
        if not 0 <= start < stop <= self.shape[0]:
            raise ValueError(f"rows {start}..{stop} of {self.shape[0]}")
        row = self.nbytes // self.shape[0]
        return replace(
            self,
            offset=self.offset + start * row,
            nbytes=(stop - start) * row,
            shape=(stop - start, *self.shape[1:]),
        )


def open_tensors(path: Path) -> dict[str, TensorRange]:
    """All tensors of a .safetensors file, or of a folder with one such file or an index of shards.

    Raises StageError (missing_weights): a file is absent, truncated or not what it says.
    """
    if not path.is_dir():
        return read_header(path)
    indexes = sorted(path.glob("*.safetensors.index.json"))
    files = sorted(path.glob("*.safetensors"))
    if len(indexes) == 1:
        return _open_shards(indexes[0])
    if indexes or len(files) != 1:
        raise _unusable(path, f"holds {len(indexes)} indexes and {len(files)} safetensors files")
    return read_header(files[0])


def _open_shards(index: Path) -> dict[str, TensorRange]:
    document = _parse(index, index.read_bytes())
    where = document.get("weight_map")
    if not isinstance(where, dict) or not all(isinstance(file, str) for file in where.values()):
        raise _unusable(index, "has no weight_map of names to files")
    # A name from the index must not lead out of the folder.
    shards = {file: read_header(index.parent / Path(file).name) for file in set(where.values())}
    tensors = {}
    for name, file in where.items():
        if name not in shards[file]:
            raise _unusable(index.parent / file, f"does not hold {name}, as its index says")
        tensors[name] = shards[file][name]
    return tensors


def read_header(path: Path) -> dict[str, TensorRange]:
    """The tensors of one file, each checked to lie inside it.

    Raises StageError (missing_weights).
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(size - 8, _LARGEST_HEADER):
                raise _unusable(path, f"is truncated or no safetensors file ({size} bytes)")
            header = _parse(path, stream.read(length))
    except OSError as error:
        raise _unusable(path, f"cannot be read ({error.strerror})") from error
    header.pop("__metadata__", None)
    start = 8 + length
    tensors = {name: _range(path, name, entry, start) for name, entry in header.items()}
    end = max((tensor.offset + tensor.nbytes for tensor in tensors.values()), default=start)
    if end != size:
        raise _unusable(path, f"has {size} bytes, its header promises {end}: it is truncated")
    return tensors


def _range(path: Path, name: str, entry: Any, start: int) -> TensorRange:
    try:
        dtype, shape = entry["dtype"], tuple(entry["shape"])
        begin, end = entry["data_offsets"]
        numbers = (begin, end, *shape)
    except (TypeError, KeyError, ValueError) as error:
        raise _unusable(path, f"describes {name} in a way that nothing reads") from error
    if dtype not in ITEM_SIZES:
        raise _unusable(path, f"holds {name} as {dtype}, which nothing reads")
    whole = all(isinstance(number, int) and number >= 0 for number in numbers)
    if not whole or end - begin != math.prod(shape) * ITEM_SIZES[dtype]:
        raise _unusable(path, f"gives {name} bytes {begin}..{end}, which are not {dtype} {shape}")
    return TensorRange(path, start + begin, end - begin, dtype, shape)


def _parse(path: Path, content: bytes) -> dict[str, Any]:
    try:
        document = json.loads(content)
    except ValueError as error:
        raise _unusable(path, "has a header or index that is not JSON") from error
    if not isinstance(document, Mapping):
        raise _unusable(path, "has a header or index that is not a JSON object")
    return dict(document)


def _unusable(path: Path, what: str) -> StageError:
    return StageError(
        "missing_weights",
        f"the weights {path} {what}",
        "fetch them again: kiss3d-orchestrate models pull NAME",
    )
