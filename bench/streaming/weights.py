"""FLUX and ControlNet-Union at their published sizes with random weights, for
bench/streaming/stream.py.

Written as sharded safetensors, as the hub has them, several shards at once, straight from the
generator to the disk: no shard is ever whole in memory. A folder that was finished is used again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from stages.flux.blocks import CONTROLNET_BLOCKS, FLUX_BLOCKS

BLOCKS = {"transformer": FLUX_BLOCKS, "controlnet": CONTROLNET_BLOCKS}
SHARD_BYTES = 2 * 2**30
FLUX = {
    "guidance_embeds": True,
    "in_channels": 64,
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "axes_dims_rope": (16, 56, 56),
}
TINY = {
    **FLUX,
    "in_channels": 16,
    "num_attention_heads": 8,
    "attention_head_dim": 32,
    "joint_attention_dim": 64,
    "pooled_projection_dim": 32,
    "axes_dims_rope": (4, 14, 14),
}


@dataclass(frozen=True)
class Sizes:
    """Configurations of the two networks, and tokens of an evaluation."""

    transformer: dict[str, Any]
    controlnet: dict[str, Any]
    image_tokens: int
    text_tokens: int
    kinds: tuple[str, ...] = field(default=("controlnet", "transformer"), init=False)


FULL_SIZES = Sizes(
    transformer={**FLUX, "num_layers": 19, "num_single_layers": 38},
    controlnet={**FLUX, "num_layers": 5, "num_single_layers": 10, "num_mode": 10},
    image_tokens=8192,
    text_tokens=1241,
)
TINY_SIZES = Sizes(
    transformer={**TINY, "num_layers": 6, "num_single_layers": 12},
    controlnet={**TINY, "num_layers": 1, "num_single_layers": 2, "num_mode": 10},
    image_tokens=64,
    text_tokens=20,
)


def on_meta(sizes: Sizes, kind: str) -> Any:
    """The network without weights, in bfloat16."""
    from diffusers import FluxControlNetModel, FluxTransformer2DModel

    model_class = FluxTransformer2DModel if kind == "transformer" else FluxControlNetModel
    with torch.device("meta"):
        model = model_class.from_config(getattr(sizes, kind))
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    model.requires_grad_(False)
    return model.eval()


def write_weights(folder: Path, sizes: Sizes, device: torch.device) -> int:
    """Write both networks below `folder` unless they are there. Returns bytes written."""
    written = 0
    for kind in sizes.kinds:
        target = folder / kind
        marker = target / "complete.json"
        wanted = json.dumps(getattr(sizes, kind), sort_keys=True)
        if marker.is_file() and marker.read_text() == wanted:
            continue
        target.mkdir(parents=True, exist_ok=True)
        for old in target.iterdir():
            old.unlink()
        model = on_meta(sizes, kind)
        model.save_config(target)
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        written += _write_shards(target, shapes, device)
        marker.write_text(wanted)
    return written


def _write_shards(folder: Path, shapes: dict[str, tuple[int, ...]], device: torch.device) -> int:
    shards: list[list[str]] = [[]]
    size = 0
    for name, shape in shapes.items():
        nbytes = 2 * torch.Size(shape).numel()
        if size + nbytes > SHARD_BYTES and shards[-1]:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += nbytes
    stem = "diffusion_pytorch_model"
    files = [f"{stem}-{n + 1:05}-of-{len(shards):05}.safetensors" for n in range(len(shards))]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        sizes = list(
            pool.map(
                lambda job: _write_shard(folder / job[1][0], job[1][1], shapes, job[0], device),
                enumerate(zip(files, shards, strict=True)),
            )
        )
    where = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
    index = {"metadata": {"total_size": sum(sizes)}, "weight_map": where}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(index))
    return sum(sizes)


def _write_shard(
    path: Path,
    names: Sequence[str],
    shapes: dict[str, tuple[int, ...]],
    seed: int,
    device: torch.device,
) -> int:
    header: dict[str, Any] = {}
    end = 0
    for name in names:
        nbytes = 2 * torch.Size(shapes[name]).numel()
        header[name] = {"dtype": "BF16", "shape": shapes[name], "data_offsets": [end, end + nbytes]}
        end += nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = torch.Generator(device).manual_seed(seed)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            values = torch.randn(
                shapes[name], generator=generator, device=device, dtype=torch.bfloat16
            )
            # Of a trained network's order of size; scales of norms lie around 1.
            values = values * 0.02 + (1.0 if name.split(".")[-2].startswith("norm_") else 0.0)
            stream.write(memoryview(values.cpu().view(torch.uint8).numpy()).cast("B"))
    return end
