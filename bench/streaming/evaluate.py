"""One evaluation of FLUX with ControlNet-Union, however its weights get to the card."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.nn.functional import silu

from bench.streaming.watch import GIB, seconds_of
from bench.streaming.weights import BLOCKS, Sizes, on_meta
from stages.streaming.net import Net
from stages.streaming.source import open_tensors


@dataclass(frozen=True)
class Row:
    """kind: resident, ours, every, fp8, group, group-low, rates. cap, host: GiB, 0 for none."""

    kind: str
    cap: float = 0.0
    host: float = 0.0

    @property
    def name(self) -> str:
        return ":".join([self.kind, *(f"{x:g}" for x in (self.cap, self.host) if x)])


@dataclass(frozen=True)
class Setup:
    """What all rows share. unit: bytes that stand for a GiB (less than one when rehearsing).

    known: results of rows before this one, by name.
    """

    folder: Path
    sizes: Sizes
    device: torch.device
    repeats: int
    threads: int
    activations: float
    unit: float
    known: dict[str, dict[str, Any]]


def evaluate(
    nets: dict[str, Any],
    setup: Setup,
    reference: bool = True,
    stats: Callable[[], Any] | None = None,
) -> dict[str, Any]:
    """Median seconds, peaks, and how the output compares to the resident one's."""
    inputs = _inputs(setup)
    output = _one(nets, inputs)
    before = stats() if stats else None
    spent = []
    for _ in range(setup.repeats):
        spent.append(seconds_of(lambda: _one(nets, inputs), setup.device))
    result: dict[str, Any] = {"s_per_eval": median(spent), "s_all": spent}
    if stats is not None and before is not None:
        after = stats()
        result |= {
            "link_gib": (after.link_bytes - before.link_bytes) / setup.repeats / GIB,
            "file_gib": (after.file_bytes - before.file_bytes) / setup.repeats / GIB,
            "file_wait_s": (after.file_wait_s - before.file_wait_s) / setup.repeats,
            "compute_wait_s": (after.compute_wait_s - before.compute_wait_s) / setup.repeats,
            "surprises": after.surprises,
        }
    if setup.device.type == "cuda":
        result["allocated_gib"] = torch.cuda.max_memory_allocated(setup.device) / GIB
        result["reserved_gib"] = torch.cuda.max_memory_reserved(setup.device) / GIB
    return result | _compare(output.float().cpu(), setup.folder / "resident.safetensors", reference)


def _compare(output: torch.Tensor, path: Path, reference: bool) -> dict[str, Any]:
    from safetensors.torch import load_file, save_file

    finite = bool(torch.isfinite(output).all())
    if not reference:
        save_file({"output": output}, path)
        return {"finite": finite}
    if not path.is_file():
        return {"finite": finite}
    wanted = load_file(path)["output"]
    return {
        "finite": finite,
        "equal": torch.equal(output, wanted),
        "rel_l2": float((output - wanted).norm() / wanted.norm()),
    }


@torch.no_grad()
def _one(nets: dict[str, Any], inputs: dict[str, Any]) -> torch.Tensor:
    shared, control = inputs["shared"], inputs["control"]
    double, single = nets["controlnet"](conditioning_scale=0.6, **control, **shared)
    (velocity,) = nets["transformer"](
        controlnet_block_samples=double, controlnet_single_block_samples=single, **shared
    )
    return velocity


@torch.no_grad()
def embedding(net: Any, setup: Setup) -> torch.Tensor:
    """What AdaLN's layers of a net are given in this evaluation, (1, d)."""
    shared = _inputs(setup)["shared"]
    dtype = torch.bfloat16
    times, guidance = (1000 * shared[name].to(dtype) for name in ("timestep", "guidance"))
    return silu(net.time_text_embed(times, guidance, shared["pooled_projections"]))


def _inputs(setup: Setup) -> dict[str, Any]:
    sizes, device = setup.sizes, setup.device
    generator = torch.Generator().manual_seed(7)
    config = sizes.transformer

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device, torch.bfloat16)

    tokens = sizes.image_tokens
    ids = torch.zeros(tokens, 3, device=device)
    ids[:, 1] = torch.arange(tokens, device=device) // 128
    ids[:, 2] = torch.arange(tokens, device=device) % 128
    shared = {
        "hidden_states": random(1, tokens, config["in_channels"]),
        "encoder_hidden_states": random(1, sizes.text_tokens, config["joint_attention_dim"]),
        "pooled_projections": random(1, config["pooled_projection_dim"]),
        "timestep": torch.tensor([0.5], device=device, dtype=torch.bfloat16),
        "guidance": torch.tensor([3.5], device=device),
        "img_ids": ids,
        "txt_ids": torch.zeros(sizes.text_tokens, 3, device=device),
        "return_dict": False,
    }
    control = {
        "controlnet_cond": random(1, tokens, config["in_channels"]),
        "controlnet_mode": torch.tensor([[1]], device=device),
    }
    return {"shared": shared, "control": control}


def open_nets(setup: Setup) -> dict[str, Net]:
    return {
        kind: Net(on_meta(setup.sizes, kind), open_tensors(setup.folder / kind), BLOCKS[kind])
        for kind in setup.sizes.kinds
    }


def load_host(setup: Setup) -> dict[str, Any]:
    from diffusers import FluxControlNetModel, FluxTransformer2DModel

    kinds = {"controlnet": FluxControlNetModel, "transformer": FluxTransformer2DModel}
    return {
        kind: kinds[kind]
        .from_pretrained(setup.folder / kind, torch_dtype=torch.bfloat16, local_files_only=True)
        .requires_grad_(False)
        .eval()
        for kind in setup.sizes.kinds
    }


def load_resident(setup: Setup) -> dict[str, Any]:
    """Everything on the device, shard by shard."""
    from safetensors.torch import load_file

    if setup.device.type == "cpu":
        return load_host(setup)
    nets = open_nets(setup)
    for net in nets.values():
        for path in sorted({tensor.path for tensor in net.tensors.values()}):
            for name, tensor in load_file(path, device=str(setup.device)).items():
                owner, _, leaf = name.rpartition(".")
                parameter = torch.nn.Parameter(tensor, requires_grad=False)
                net.module.get_submodule(owner).register_parameter(leaf, parameter)
    return {kind: net.module for kind, net in nets.items()}


class BlockTimer:
    """Seconds that each block computes, by events around its forward."""

    def __init__(self, nets: dict[str, Any], device: torch.device) -> None:
        self._events: list[list[Any]] = []
        self._cuda = device.type == "cuda"
        for kind, net in nets.items():
            for name in BLOCKS[kind]:
                for block in net.get_submodule(name):
                    pair: list[Any] = [None, None]
                    self._events.append(pair)
                    block.register_forward_pre_hook(self._mark(pair, 0))
                    block.register_forward_hook(self._mark(pair, 1))

    def _mark(self, pair: list[Any], which: int) -> Callable[..., None]:
        def mark(*_: Any) -> None:
            if self._cuda:
                pair[which] = torch.cuda.Event(enable_timing=True)
                pair[which].record()
            else:
                pair[which] = time.perf_counter()

        return mark

    def seconds(self) -> list[float]:
        """Of the last evaluation, which has to be over."""
        if self._cuda:
            return [first.elapsed_time(last) / 1e3 for first, last in self._events]
        return [last - first for first, last in self._events]
