"""A tiny FLUX with its ControlNet, on disk as they come, and what one evaluation of them is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxControlNetModel, FluxTransformer2DModel

from stages.flux.blocks import FLUX_BLOCKS
from stages.streaming.delta import LowRankDelta
from stages.streaming.models import StreamedModels, stream
from stages.streaming.net import Net
from stages.streaming.source import open_tensors

T5_BLOCKS = ("encoder.block",)
"""Of transformers' T5EncoderModel."""


CPU = torch.device("cpu")
GUIDANCE = 3.5
PLENTY = 2**30
BUDGETS = {
    "all on the card": (PLENTY, 0),
    "some on the card, rest pinned": (450_000, PLENTY),
    "none on the card, all pinned": (290_000, PLENTY),
    "card, pinned and file": (400_000, 290_000),
    "pinned and file": (290_000, 300_000),
    "file, one block in the ring": (290_000, 79_000),
}
"""Bytes for weights on the card and in host memory; the two nets are 534,272."""
SHAPE = {
    "in_channels": 4,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "pooled_projection_dim": 16,
    "axes_dims_rope": (4, 6, 6),
    "guidance_embeds": True,
}
LAYERS = {"num_layers": 2, "num_single_layers": 4}
CONTROL_LAYERS = {"num_layers": 1, "num_single_layers": 2, "num_mode": 3}


@dataclass(frozen=True)
class TinyFlux:
    """Resident networks in bfloat16, and the folders that they were saved to in shards."""

    transformer: Any
    controlnet: Any
    folder: Path

    def nets(self, **deltas: Any) -> dict[str, Net]:
        """The same networks on the meta device, to be streamed. deltas: by network."""
        kinds = {"controlnet": FluxControlNetModel, "transformer": FluxTransformer2DModel}
        nets = {}
        for name, kind in kinds.items():
            with torch.device("meta"):
                module = kind.from_config(dict(getattr(self, name).config)).eval()
            tensors = open_tensors(self.folder / name)
            nets[name] = Net(module, tensors, FLUX_BLOCKS, deltas.get(name, {}))
        return nets


def save_tiny_flux(folder: Path) -> TinyFlux:
    transformer = FluxTransformer2DModel(**SHAPE, **LAYERS)
    controlnet = FluxControlNetModel(**SHAPE, **CONTROL_LAYERS)
    generator = torch.Generator().manual_seed(0)
    for name, net in (("transformer", transformer), ("controlnet", controlnet)):
        for parameter in net.parameters():
            parameter.requires_grad_(False)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        net.to(torch.bfloat16).eval()
        net.save_pretrained(folder / name, max_shard_size="60KB")
    return TinyFlux(transformer, controlnet, folder)


@torch.no_grad()
def evaluate(
    transformer: Any, controlnet: Any = None, device: torch.device = CPU, time: float = 0.5
) -> torch.Tensor:
    """One evaluation on fixed inputs, with the ControlNet unless it is None."""
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(device, torch.bfloat16)

    shared = {
        "hidden_states": random(1, 6, 4),
        "encoder_hidden_states": random(1, 3, 32),
        "pooled_projections": _pooled().to(device),
        "timestep": torch.tensor([time], device=device, dtype=torch.bfloat16),
        "guidance": torch.tensor([GUIDANCE], device=device),
        "img_ids": torch.arange(18.0, device=device).view(6, 3),
        "txt_ids": torch.zeros(3, 3, device=device),
        "return_dict": False,
    }
    residuals: dict[str, Any] = {}
    if controlnet is not None:
        mode = torch.tensor([[1]], device=device)
        double, single = controlnet(controlnet_cond=random(1, 6, 4), controlnet_mode=mode, **shared)
        residuals = {"controlnet_block_samples": double, "controlnet_single_block_samples": single}
    (velocity,) = transformer(**shared, **residuals)
    return velocity


@torch.no_grad()
def embedding(net: Any, time: float, device: torch.device = CPU) -> torch.Tensor:
    """What AdaLN's layers of a net get in `evaluate`, (1, d)."""
    times, guidance = (
        1000 * torch.tensor([value], device=device, dtype=torch.bfloat16)
        for value in (time, GUIDANCE)
    )
    return torch.nn.functional.silu(net.time_text_embed(times, guidance, _pooled().to(device)))


def _pooled() -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(1, 16, generator=generator).to(torch.bfloat16)


def low_rank(nets: dict[str, Net], *parts: str) -> dict[str, LowRankDelta]:
    """A LoRA for matrices of the transformer; by default inside and outside of its blocks."""
    parts = parts or ("attn", "embedder")
    generator = torch.Generator().manual_seed(5)
    return {
        name: LowRankDelta(
            torch.randn(parameter.shape[0], 4, generator=generator) * 0.1,
            torch.randn(4, parameter.shape[1], generator=generator) * 0.1,
        )
        for name, parameter in nets["transformer"].module.named_parameters()
        if parameter.ndim == 2 and any(part in name for part in parts)
    }


def open_streamed(
    nets: dict[str, Net], budgets: tuple[int, int] = (290_000, 300_000), **options: Any
) -> StreamedModels:
    vram, host = budgets
    options = {"device": CPU, "dtype": torch.bfloat16, "threads": 3, **options}
    return stream(nets, vram_bytes=vram, host_bytes=host, **options)


def run(nets: dict[str, Net], with_control: bool = True) -> torch.Tensor:
    control = nets["controlnet"].module if with_control else None
    return evaluate(nets["transformer"].module, control)
