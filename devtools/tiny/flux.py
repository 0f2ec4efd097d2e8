"""Tiny random checkpoints of FLUX's classes, in the formats and folders of the real ones.

Each builder writes `<folder>/<catalogue name>/...`, so that KISS3D_MODELS=<folder> finds it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import torch
from diffusers import AutoencoderKL, FluxControlNetModel, FluxTransformer2DModel
from safetensors.torch import save_file

from devtools.tiny.encoders import clip_linear_layers
from devtools.tiny.text import rewrite

HEADS, HEAD = 2, 32
WIDTH = HEADS * HEAD
"""Rows of 64 numbers, two blocks of Q8_0."""
TEXT, POOLED, CHANNELS = 32, 32, 4
"""Sizes of T5's tokens, of CLIP's vector, and of a latent."""

_NET: dict[str, Any] = {
    "in_channels": 4 * CHANNELS,
    "attention_head_dim": HEAD,
    "num_attention_heads": HEADS,
    "joint_attention_dim": TEXT,
    "pooled_projection_dim": POOLED,
    "guidance_embeds": True,
    "axes_dims_rope": (4, 14, 14),
}


SCHEDULER = {
    "_class_name": "FlowMatchEulerDiscreteScheduler",
    "base_image_seq_len": 256,
    "base_shift": 0.5,
    "max_image_seq_len": 4096,
    "max_shift": 1.15,
    "num_train_timesteps": 1000,
    "shift": 3.0,
    "use_dynamic_shifting": True,
}
KEPT_IN_GGUF = ("img_in.", "txt_in.", "time_in.", "vector_in.", "guidance_in.", "final_layer.")
"""Layers that the tool which made the GGUF files does not quantise."""


def transformer(seed: int = 1) -> FluxTransformer2DModel:
    torch.manual_seed(seed)
    return FluxTransformer2DModel(num_layers=3, num_single_layers=2, **_NET).eval()


def build_flux_transformer(folder: Path, sharded: bool = False) -> FluxTransformer2DModel:
    """flux1-dev-transformer: diffusers' folder, in one file or in shards with an index."""
    model = transformer()
    target = folder / "flux1-dev-transformer" / "transformer"
    model.save_pretrained(target, max_shard_size="200KB" if sharded else "10GB")
    rewrite(target / "config.json", ("out_channels",))
    return model


def build_flux_vae(folder: Path) -> AutoencoderKL:
    torch.manual_seed(2)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=4,
        sample_size=32,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    ).eval()
    with torch.no_grad():  # a random decoder's pictures are almost grey
        model.decoder.conv_out.weight.mul_(2.0)
    model.save_pretrained(folder / "flux1-dev-vae" / "vae")
    scheduler = folder / "flux1-dev-vae" / "scheduler"
    scheduler.mkdir(parents=True, exist_ok=True)
    (scheduler / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    return model


def build_controlnet_union(folder: Path) -> FluxControlNetModel:
    torch.manual_seed(3)
    model = FluxControlNetModel(num_layers=2, num_single_layers=1, num_mode=10, **_NET).eval()
    for parameter in model.parameters():  # what starts at zero would never be seen
        if not bool(parameter.any()):
            torch.nn.init.normal_(parameter, std=0.2)
    target = folder / "flux1-controlnet-union"
    model.save_pretrained(target)
    rewrite(target / "config.json", ("conditioning_embedding_channels",), _name_or_path="/mnt/x")
    return model


def lora_layers(rank: int = 4, seed: int = 4) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """(down, up) by BFL's layer name; the ranks differ."""
    generator = torch.Generator().manual_seed(seed)

    def pair(rows: int, columns: int, rank: int) -> tuple[torch.Tensor, torch.Tensor]:
        down = torch.randn(rank, columns, generator=generator) * 0.2
        return down, torch.randn(rows, rank, generator=generator) * 0.2

    return {
        "double_blocks.0.img_attn.qkv": pair(3 * WIDTH, WIDTH, rank),
        "double_blocks.1.txt_mlp.0": pair(4 * WIDTH, WIDTH, rank // 2),
        "double_blocks.2.img_mod.lin": pair(6 * WIDTH, WIDTH, rank),
        "single_blocks.0.linear1": pair(7 * WIDTH, WIDTH, 2 * rank),
        "single_blocks.1.linear2": pair(WIDTH, 5 * WIDTH, rank),
    }


ALPHA = 2.0


LoraLayout = Literal[
    "kohya",
    "diffusers",
    "diffusers, older",
    "ai-toolkit",
    "comfy with alpha",
    "peft",
    "peft, BFL's names",
    "no prefix",
    "no prefix, BFL's names",
    "OneTrainer",
    "OneTrainer, newer",
    "SimpleTuner",
]


def lora_tensors(layout: LoraLayout) -> dict[str, torch.Tensor]:
    """`lora_layers`, scaled by ALPHA / rank, as different trainers write it."""
    own = layout in ("kohya", "ai-toolkit", "comfy with alpha") or "BFL" in layout
    tensors: dict[str, torch.Tensor] = {}
    for layer, (down, up) in lora_layers().items():
        parts = [(layer, slice(None))] if own else bfl_targets(layer, len(up))
        for name, rows in parts:
            tensors |= _pair(layout, name, down.clone(), up[rows].clone())
    return tensors


def _pair(
    layout: LoraLayout, layer: str, down: torch.Tensor, up: torch.Tensor
) -> dict[str, torch.Tensor]:
    flat = layer.replace(".", "_")
    prefix, halves, alpha = {
        "kohya": (f"lora_unet_{flat}", ("lora_down", "lora_up"), True),
        "diffusers": (f"transformer.{layer}", ("lora_A", "lora_B"), False),
        "diffusers, older": (f"transformer.{layer}", ("lora.down", "lora.up"), False),
        "ai-toolkit": (f"diffusion_model.{layer}", ("lora_A", "lora_B"), False),
        "comfy with alpha": (f"diffusion_model.{layer}", ("lora_down", "lora_up"), True),
        "peft": (f"base_model.model.{layer}", ("lora_A.default", "lora_B.default"), False),
        "peft, BFL's names": (f"base_model.model.{layer}", ("lora_A", "lora_B"), False),
        "no prefix": (layer, ("lora_A", "lora_B"), False),
        "no prefix, BFL's names": (layer, ("lora_down", "lora_up"), True),
        "OneTrainer": (f"lora_transformer_{flat}", ("lora_down", "lora_up"), True),
        "OneTrainer, newer": (f"transformer.{layer}", ("lora_down", "lora_up"), True),
        "SimpleTuner": (f"lycoris_{flat}", ("lora_down", "lora_up"), True),
    }[layout]
    factor = 1.0 if alpha else ALPHA / len(down)
    tensors = {f"{prefix}.{halves[0]}.weight": down, f"{prefix}.{halves[1]}.weight": up * factor}
    return {**tensors, f"{prefix}.alpha": torch.tensor(ALPHA)} if alpha else tensors


def clip_lora_tensors(seed: int = 6) -> dict[str, torch.Tensor]:
    """What FluxGym adds for CLIP-L, in kohya's layout: every linear layer of the tiny one."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer, (rows, columns) in clip_linear_layers().items():
        name = f"lora_te1_text_model_{layer.replace('.', '_')}"
        tensors[f"{name}.lora_down.weight"] = torch.randn(4, columns, generator=generator) * 0.1
        tensors[f"{name}.lora_up.weight"] = torch.randn(rows, 4, generator=generator) * 0.1
        tensors[f"{name}.alpha"] = torch.tensor(ALPHA)
    return tensors


def build_lora(folder: Path, keys: Literal["kohya", "diffusers"] = "kohya") -> None:
    """kiss3dgen-lora: the transformer's part and CLIP's, as FluxGym writes them; and the one for
    meshes, which is half of it."""
    tensors = lora_tensors(keys)
    if keys == "kohya":
        tensors |= clip_lora_tensors()
    half = {name: tensor / 2 if "up" in name else tensor for name, tensor in tensors.items()}
    for name, file, values in (
        ("kiss3dgen-lora", "rgb_normal", tensors),
        ("kiss3dgen-lora-redux", "rgb_normal_redux", half),
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        save_file(values, folder / name / f"{file}.safetensors")


def bfl_targets(layer: str, rows: int) -> list[tuple[str, slice]]:
    """Where the rows of the layers of `lora_layers` go, written out by hand."""
    _, number, name = layer.split(".", 2)
    double, single = f"transformer_blocks.{number}", f"single_transformer_blocks.{number}"
    W = WIDTH
    qkv = [(f"attn.to_{part}", slice(i * W, (i + 1) * W)) for i, part in enumerate("qkv")]
    return {
        "img_attn.qkv": [(f"{double}.{part}", where) for part, where in qkv],
        "txt_mlp.0": [(f"{double}.ff_context.net.0.proj", slice(rows))],
        "img_mod.lin": [(f"{double}.norm1.linear", slice(rows))],
        "linear1": [
            *((f"{single}.{part}", where) for part, where in qkv),
            (f"{single}.proj_mlp", slice(3 * W, rows)),
        ],
        "linear2": [(f"{single}.proj_out", slice(rows))],
    }[name]


def bfl_state_dict(model: FluxTransformer2DModel) -> dict[str, torch.Tensor]:
    """The model's weights under BFL's names, stacked as BFL stacks them."""
    state = model.state_dict()
    stacked: dict[str, torch.Tensor] = {}

    def put(layer: str, *names: str, leaf: str = "") -> None:
        for kind in [leaf] if leaf else ["weight", "bias"]:
            source = "weight" if kind == "scale" else kind
            parts = [state.pop(f"{name}.{source}") for name in names]
            stacked[f"{layer}.{kind}"] = torch.cat(parts)

    embedder = "time_text_embed.{}_embedder.linear_{}"
    for ours, theirs in (("timestep", "time"), ("text", "vector"), ("guidance", "guidance")):
        put(f"{theirs}_in.in_layer", embedder.format(ours, 1))
        put(f"{theirs}_in.out_layer", embedder.format(ours, 2))
    put("img_in", "x_embedder")
    put("txt_in", "context_embedder")
    put("final_layer.linear", "proj_out")
    for kind in ("weight", "bias"):
        scale, shift = state.pop(f"norm_out.linear.{kind}").chunk(2)
        stacked[f"final_layer.adaLN_modulation.1.{kind}"] = torch.cat([shift, scale])
    for i in range(model.config.num_layers):
        a, b = f"double_blocks.{i}", f"transformer_blocks.{i}"
        for theirs, norm, q, k, v, n, out, mlp in (
            ("img", "norm1", "to_q", "to_k", "to_v", "norm_", "to_out.0", "ff"),
            ("txt", "norm1_context", "add_q_proj", "add_k_proj", "add_v_proj", "norm_added_",
             "to_add_out", "ff_context"),
        ):  # fmt: skip
            put(f"{a}.{theirs}_mod.lin", f"{b}.{norm}.linear")
            put(f"{a}.{theirs}_attn.qkv", *(f"{b}.attn.{part}" for part in (q, k, v)))
            put(f"{a}.{theirs}_attn.proj", f"{b}.attn.{out}")
            put(f"{a}.{theirs}_attn.norm.query_norm", f"{b}.attn.{n}q", leaf="scale")
            put(f"{a}.{theirs}_attn.norm.key_norm", f"{b}.attn.{n}k", leaf="scale")
            put(f"{a}.{theirs}_mlp.0", f"{b}.{mlp}.net.0.proj")
            put(f"{a}.{theirs}_mlp.2", f"{b}.{mlp}.net.2")
    for i in range(model.config.num_single_layers):
        a, b = f"single_blocks.{i}", f"single_transformer_blocks.{i}"
        parts = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
        put(f"{a}.linear1", *(f"{b}.{part}" for part in parts))
        put(f"{a}.linear2", f"{b}.proj_out")
        put(f"{a}.modulation.lin", f"{b}.norm.linear")
        put(f"{a}.norm.query_norm", f"{b}.attn.norm_q", leaf="scale")
        put(f"{a}.norm.key_norm", f"{b}.attn.norm_k", leaf="scale")
    assert not state
    return stacked


def build_single_file(folder: Path, dtype: torch.dtype = torch.float8_e4m3fn) -> None:
    """flux1-dev-fp8: BFL's names below Comfy's prefix, beside tensors of other models."""
    tensors = {
        f"model.diffusion_model.{key}": tensor.to(dtype)
        for key, tensor in bfl_state_dict(transformer()).items()
    }
    tensors["vae.decoder.conv_in.bias"] = torch.zeros(4)
    tensors["text_encoders.clip_l.logit_scale"] = torch.zeros(1)
    target = folder / "flux1-dev-fp8"
    target.mkdir(parents=True, exist_ok=True)
    save_file(tensors, target / "flux1-dev-fp8.safetensors")


def build_gguf(folder: Path, tool: Literal["2024", "today"] = "2024") -> None:
    """flux1-dev-gguf-q8: BFL's names, the blocks' matrices in Q8_0.

    tool: what the rest is in. float16, as the published file's size tells; today's tool writes
    bfloat16 matrices and float32 vectors.
    """
    target = folder / "flux1-dev-gguf-q8"
    target.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(target / "flux1-dev-Q8_0.gguf", "flux")
    kinds = gguf.GGMLQuantizationType
    for key, tensor in bfl_state_dict(transformer()).items():
        data = tensor.numpy().astype(np.float32)
        if data.ndim == 1 or key.startswith(KEPT_IN_GGUF):
            newer = kinds.F32 if data.ndim == 1 else kinds.BF16
            kind = newer if tool == "today" else kinds.F16
        else:
            kind = kinds.Q8_0
        writer.add_tensor(key, gguf.quants.quantize(data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def build_all(folder: Path) -> None:
    """What the stage's default params need, and the diffusers folder beside it."""
    build_flux_transformer(folder)
    build_single_file(folder)
    build_flux_vae(folder)
    build_controlnet_union(folder)
    build_lora(folder)
