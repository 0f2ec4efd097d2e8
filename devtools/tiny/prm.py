"""Checkpoints of the PRM model with random weights, from the table of published keys and shapes.

The table is written from the published checkpoint's, not from our modules.
The weights are random but for one path through the net, set so that the signed distance is a blob:
a random net's field may well be outside everywhere. What the images show bends the blob and sets
its colours a little; it does not become the object.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from stages.lrm.prm.config import EncoderConfig, PrmConfig, TransformerConfig

TINY = PrmConfig(
    EncoderConfig(hidden=64, layers=2, heads=1, mlp=128, patch=16, image_size=32),
    TransformerConfig(dim=64, layers=2, heads=1, low_res=16, plane_dim=8),
)
PREFIX = "lrm_generator."
BLOB_CENTER = (0.1, -0.05, 0.15)
"""Of the blob, in frame T."""
BLOB_RADIUS = 0.6
REACH = 1.5
"""Along each plane the blob's feature is max(0, REACH - squared distance from its centre)."""
DEVIATION = 4.0
"""Of a token's channels."""


def published_shapes(config: PrmConfig) -> dict[str, tuple[int, ...]]:
    """Every key behind the prefix with its shape, for a model of these sizes."""
    e, t = config.encoder, config.transformer
    h, d = e.hidden, t.dim
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, outputs: int, inputs: int) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs)
        shapes[f"{name}.bias"] = (outputs,)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    embeddings = "encoder.model.embeddings"
    shapes[f"{embeddings}.cls_token"] = (1, 1, h)
    shapes[f"{embeddings}.position_embeddings"] = (1, 1 + (e.image_size // e.patch) ** 2, h)
    shapes[f"{embeddings}.patch_embeddings.projection.weight"] = (h, 3, e.patch, e.patch)
    shapes[f"{embeddings}.patch_embeddings.projection.bias"] = (h,)
    for i in range(e.layers):
        layer = f"encoder.model.encoder.layer.{i}"
        for name in ("query", "key", "value"):
            linear(f"{layer}.attention.attention.{name}", h, h)
        linear(f"{layer}.attention.output.dense", h, h)
        linear(f"{layer}.intermediate.dense", e.mlp, h)
        linear(f"{layer}.output.dense", h, e.mlp)
        norm(f"{layer}.layernorm_before", h)
        norm(f"{layer}.layernorm_after", h)
        linear(f"{layer}.adaLN_modulation.1", 4 * h, h)
    norm("encoder.model.layernorm", h)
    linear("encoder.camera_embedder.0", h, 16)
    linear("encoder.camera_embedder.2", h, h)

    shapes["transformer.pos_embed"] = (1, 3 * t.low_res**2, d)
    for i in range(t.layers):
        layer = f"transformer.layers.{i}"
        for name in ("norm1", "norm2", "norm3"):
            norm(f"{layer}.{name}", d)
        shapes[f"{layer}.cross_attn.q_proj_weight"] = (d, d)
        shapes[f"{layer}.cross_attn.k_proj_weight"] = (d, h)
        shapes[f"{layer}.cross_attn.v_proj_weight"] = (d, h)
        shapes[f"{layer}.cross_attn.out_proj.weight"] = (d, d)
        shapes[f"{layer}.self_attn.in_proj_weight"] = (3 * d, d)
        shapes[f"{layer}.self_attn.out_proj.weight"] = (d, d)
        linear(f"{layer}.mlp.0", 4 * d, d)
        linear(f"{layer}.mlp.3", d, 4 * d)
    norm("transformer.norm", d)
    shapes["transformer.deconv.weight"] = (d, t.plane_dim, 2, 2)
    shapes["transformer.deconv.bias"] = (t.plane_dim,)

    features = 3 * t.plane_dim
    heads = {"sdf": 1, "rgb": 3, "material": 2, "deformation": 3, "weight": 21}
    for name, outputs in heads.items():
        net = f"synthesizer.decoder.net_{name}"
        linear(f"{net}.0", 64, 8 * features if name == "weight" else features)
        linear(f"{net}.2", 64, 64)
        linear(f"{net}.4", 64, 64)
        linear(f"{net}.6", outputs, 64)
    return shapes


def prm_tensors(config: PrmConfig = TINY, seed: int = 0) -> dict[str, Tensor]:
    """The state dict without the prefix, float32."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        key: _random(key, shape, generator) for key, shape in published_shapes(config).items()
    }
    _shape_blob(tensors, config.transformer)
    return tensors


def build_prm(folder: Path, config: PrmConfig = TINY, seed: int = 0, suffix: str = ".ckpt") -> Path:
    """Write `<folder>/prm/final_ckpt<suffix>`, as Lightning would, with its config; returns it."""
    target = folder / "prm"
    target.mkdir(parents=True, exist_ok=True)
    if config != PrmConfig():
        config.write(target)
    # Lightning files hold more than the model: what else is in them must not matter.
    tensors = {PREFIX + key: value for key, value in prm_tensors(config, seed).items()}
    tensors["lpips.weight"] = torch.zeros(2)
    path = target / f"final_ckpt{suffix}"
    if suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(_training_file(tensors), path)
    return path


def _training_file(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """What Lightning saves while it trains with AdamW: three times the model, and its progress."""
    moments = {
        number: {"step": torch.tensor(9.0), "exp_avg": value * 0, "exp_avg_sq": value * 0}
        for number, value in enumerate(tensors.values())
    }
    best = {"monitor": "val/loss", "best_model_score": torch.tensor(0.5), "dirpath": "/train"}
    return {
        "epoch": 3,
        "global_step": 9,
        "pytorch-lightning_version": "2.1.2",
        "state_dict": tensors,
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3}}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'val/loss'}": best},
        "optimizer_states": [{"state": moments, "param_groups": [{"lr": 4e-4, "betas": (0.9, 1)}]}],
        "lr_schedulers": [],
    }


def _random(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    values = torch.randn(shape, generator=generator)
    if ".norm" in key or "layernorm" in key:
        return values * 0.1 + (1.0 if key.endswith("weight") else 0.0)
    if key.endswith(".bias"):
        return values * 0.05
    if key.endswith(("cls_token", "position_embeddings", "pos_embed")):
        return values * 0.5
    fan_in = math.prod(shape[1:])
    return values * (1.5 / math.sqrt(fan_in))


def _shape_blob(tensors: dict[str, Tensor], config: TransformerConfig) -> None:
    """Carry REACH - squared distance, of each plane, in channel 0 from the tokens to the SDF."""
    tokens = tensors["transformer.pos_embed"].view(3, config.low_res, config.low_res, config.dim)
    axis = (torch.arange(config.low_res) + 0.5) * 2.0 / config.low_res - 1.0
    x, y, z = BLOB_CENTER
    for plane, (across, down) in zip(tokens, ((x, y), (x, z), (z, y)), strict=True):
        squared = (axis - across) ** 2 + (axis[:, None] - down) ** 2
        value = (REACH - squared).clamp_min(0.0)
        # Channel 1 keeps the mean 0; a large pair keeps the deviation near DEVIATION, so that the
        # final norm leaves channel 0 nearly as it is.
        large = DEVIATION * math.sqrt(config.dim / 2.0)
        for channel, content in enumerate((value, -value, large, -large)):
            plane[..., channel] = content
    for key, value in tensors.items():
        if key.startswith("transformer.layers") and (".out_proj" in key or ".mlp.3" in key):
            value *= 0.2
            value[:4] = 0.0  # nothing is added to these channels
    tensors["transformer.norm.weight"] *= DEVIATION
    tensors["transformer.norm.weight"][:4] = torch.tensor((DEVIATION, 0.0, 0.0, 0.0))
    tensors["transformer.norm.bias"][:4] = 0.0
    deconv = tensors["transformer.deconv.weight"]
    deconv[:, 0] = 0.0
    deconv[0, 0] = 1.0
    tensors["transformer.deconv.bias"][0] = 0.0

    net = "synthesizer.decoder.net_sdf"
    for index in (0, 2, 4, 6):
        tensors[f"{net}.{index}.weight"][0] *= 0.01
        tensors[f"{net}.{index}.bias"][0] = 0.0
    tensors[f"{net}.0.weight"][0, :: config.plane_dim] = 1.0
    tensors[f"{net}.2.weight"][0, 0] = 1.0
    tensors[f"{net}.4.weight"][0, 0] = 1.0
    # Every axis lies in two planes.
    tensors[f"{net}.6.weight"][0, 0] = -0.5
    tensors[f"{net}.6.bias"][0] = 0.5 * (3.0 * REACH - 2.0 * BLOB_RADIUS**2)
