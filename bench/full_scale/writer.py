"""Safetensors files of random numbers, written by several threads and never whole in memory."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

THREADS = 8
CHUNK = 1 << 26
"""Numbers that a thread makes at once: 256 MiB in float32."""
BIAS_STD = 0.02
_NAMES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}


@dataclass(frozen=True)
class Tensor:
    """Normally distributed numbers. zero_rows: ranges of the first dimension that are 0."""

    shape: tuple[int, ...]
    std: float
    mean: float = 0.0
    zero_rows: tuple[slice, ...] = ()


def like(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Numbers that keep activations of order 1 at any depth and width, in half precision too.

    Matrices get std = fan_in^-1/2, scales of norms are 1.
    """
    tensors = {}
    for name, shape in shapes.items():
        if len(shape) == 1 and name.endswith(".weight"):
            tensors[name] = Tensor(tuple(shape), 0.0, 1.0)
        else:
            std = math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else BIAS_STD
            tensors[name] = Tensor(tuple(shape), std)
    return tensors


def of_module(module: torch.nn.Module) -> dict[str, Tensor]:
    """As `like`, for a module's parameters; one that two layers share comes once."""
    return like({name: tuple(p.shape) for name, p in module.named_parameters()})


def write(
    folder: Path,
    stem: str,
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype,
    device: torch.device,
    shard_bytes: int = 0,
    constants: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """`<folder>/<stem>.safetensors`, or shards with an index where shard_bytes is not 0.

    device: that makes the numbers; they depend on it, and on the names. constants: tensors that
    are written as they are (float32), into the last file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups = _shards(tensors, dtype, shard_bytes)
    files = [f"{stem}.safetensors"]
    if shard_bytes:
        files = [f"{stem}-{n + 1:05}-of-{len(groups):05}.safetensors" for n in range(len(groups))]
    places: list[tuple[Path, str, int]] = []
    for file, names in zip(files, groups, strict=True):
        fixed = constants if constants and file == files[-1] else {}
        offsets = _begin(folder / file, names, tensors, dtype, fixed)
        places += [(folder / file, name, offsets[name]) for name in names]
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        list(pool.map(lambda p: _fill(p[0], p[2], p[1], tensors[p[1]], dtype, device), places))
    if shard_bytes:
        where = {name: path.name for path, name, _ in places}
        total = sum(_size(tensors[name], dtype) for name in tensors)
        index = {"metadata": {"total_size": total}, "weight_map": where}
        (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))


def _size(tensor: Tensor, dtype: torch.dtype) -> int:
    return math.prod(tensor.shape) * dtype.itemsize


def _shards(tensors: Mapping[str, Tensor], dtype: torch.dtype, shard_bytes: int) -> list[list[str]]:
    groups: list[list[str]] = [[]]
    size = 0
    for name, tensor in tensors.items():
        nbytes = _size(tensor, dtype)
        if shard_bytes and groups[-1] and size + nbytes > shard_bytes:
            groups.append([])
            size = 0
        groups[-1].append(name)
        size += nbytes
    return groups


def _begin(
    path: Path,
    names: Iterable[str],
    tensors: Mapping[str, Tensor],
    dtype: torch.dtype,
    constants: Mapping[str, torch.Tensor],
) -> dict[str, int]:
    """Write the header and the constants; returns where in the file each tensor begins."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offsets: dict[str, int] = {}
    end = 0
    for name in names:
        size = _size(tensors[name], dtype)
        entry = {"dtype": _NAMES[dtype], "shape": tensors[name].shape}
        header[name] = {**entry, "data_offsets": [end, end + size]}
        offsets[name] = end
        end += size
    data = b""
    for name, value in constants.items():
        content = value.float().contiguous().numpy().tobytes()
        begin, after = end + len(data), end + len(data) + len(content)
        header[name] = {"dtype": "F32", "shape": value.shape, "data_offsets": [begin, after]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(start + end)
        stream.seek(start + end)
        stream.write(data)
    return {name: start + offset for name, offset in offsets.items()}


def _fill(
    path: Path,
    offset: int,
    name: str,
    tensor: Tensor,
    dtype: torch.dtype,
    device: torch.device,
) -> None:
    row = math.prod(tensor.shape[1:])
    rows = tensor.shape[0] if tensor.shape else 1
    generator = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
    step = max(1, CHUNK // max(1, row))
    with path.open("r+b") as stream:
        stream.seek(offset)
        for first in range(0, rows, step):
            count = min(step, rows - first)
            values = torch.randn((count, row), generator=generator, device=device)
            values.mul_(tensor.std).add_(tensor.mean)
            for zero in tensor.zero_rows:
                begin, end, _ = zero.indices(rows)
                values[max(0, begin - first) : max(0, end - first)] = 0.0
            stream.write(values.to(dtype).cpu().view(torch.uint8).numpy().data)
