"""Every checkpoint that the profiles load, with random weights, where KISS3D_MODELS finds it.

A model is written into a hidden folder beside its place and renamed when it is complete, so an
interrupted build goes on where it was. Tokenizers and processors are those of devtools/tiny: their
files have the real formats, their vocabularies the 256 bytes. The two background networks stand in
by one convolution, so what IS-Net and U2-Net cost is not measured here.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.full_scale import writer
from bench.full_scale.sizes import Sizes
from devtools.tiny import encoders, prm, text, zero123plus
from devtools.tiny.onnx_net import build_isnet

SPARE = 2 << 30
"""Bytes to leave free on a disk."""
BACKGROUND_SIDES = {"isnet-general-use": 1024, "u2net": 320}


@dataclass(frozen=True)
class Maker:
    """How models are made. device: where random numbers come from."""

    sizes: Sizes
    device: torch.device

    def write(self, folder: Path, stem: str, module: Any, dtype: torch.dtype, **more: Any) -> None:
        writer.write(folder, stem, writer.of_module(module), dtype, self.device, **more)


def _diffusers(module: Any, folder: Path, maker: Maker, **more: Any) -> None:
    module.save_config(folder)
    maker.write(folder, "diffusion_pytorch_model", module, torch.bfloat16, **more)


def flux_transformer(folder: Path, maker: Maker) -> None:
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        module = FluxTransformer2DModel(**maker.sizes.transformer)
    _diffusers(module, folder / "transformer", maker, shard_bytes=maker.sizes.shard_bytes)


def controlnet_union(folder: Path, maker: Maker) -> None:
    from diffusers import FluxControlNetModel

    with torch.device("meta"):
        module = FluxControlNetModel(**maker.sizes.controlnet)
    _diffusers(module, folder, maker)


def flux_vae(folder: Path, maker: Maker) -> None:
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        module = AutoencoderKL(**maker.sizes.vae)
    _diffusers(module, folder / "vae", maker)
    scheduler = folder / "scheduler" / "scheduler_config.json"
    scheduler.parent.mkdir()
    scheduler.write_text('{"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}')


def flux_text(folder: Path, maker: Maker) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    with tempfile.TemporaryDirectory() as temporary:
        tiny = encoders.build_flux_text(Path(temporary))
        for part in ("tokenizer", "tokenizer_2"):
            shutil.copytree(tiny / part, folder / part)
        # The begin and end tokens are those of the tokenizers.
        clip = _resized(tiny / "text_encoder", CLIPTextConfig, maker.sizes.clip)
        t5 = _resized(tiny / "text_encoder_2", T5Config, maker.sizes.t5)
    clip.save_pretrained(folder / "text_encoder")
    t5.save_pretrained(folder / "text_encoder_2")
    with torch.device("meta"):
        small, large = CLIPTextModel(clip), T5EncoderModel(t5)
    maker.write(folder / "text_encoder", "model", small, torch.bfloat16)
    shards = maker.sizes.shard_bytes
    maker.write(folder / "text_encoder_2", "model", large, torch.bfloat16, shard_bytes=shards)


def redux(folder: Path, maker: Maker) -> None:
    from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
    from transformers import SiglipVisionConfig, SiglipVisionModel

    with tempfile.TemporaryDirectory() as temporary:
        tiny = encoders.build_redux(Path(temporary))
        siglip = _resized(tiny / "image_encoder", SiglipVisionConfig, maker.sizes.siglip)
        extractor = _edited(
            tiny / "feature_extractor" / "preprocessor_config.json",
            size={"height": siglip.image_size, "width": siglip.image_size},
        )
    (folder / "feature_extractor").mkdir(parents=True)
    (folder / "feature_extractor" / "preprocessor_config.json").write_text(extractor)
    siglip.save_pretrained(folder / "image_encoder")
    with torch.device("meta"):
        encoder = SiglipVisionModel(siglip)
        embedder = ReduxImageEncoder(siglip.hidden_size, maker.sizes.t5["d_model"])
    maker.write(folder / "image_encoder", "model", encoder, torch.bfloat16)
    _diffusers(embedder, folder / "image_embedder", maker)


def lora(folder: Path, maker: Maker, file: str = "rgb_normal") -> None:
    """On every linear layer of the transformer's blocks, with kohya's keys; small, as it is."""
    flux = maker.sizes.transformer
    width = flux["num_attention_heads"] * flux["attention_head_dim"]
    double = {"attn_qkv": (3, 1), "attn_proj": (1, 1), "mlp_0": (4, 1), "mlp_2": (1, 4)}
    double["mod_lin"] = (6, 1)
    layers = {
        f"double_blocks_{i}_{stream}_{name}": shape
        for i in range(flux["num_layers"])
        for stream in ("img", "txt")
        for name, shape in double.items()
    }
    for i in range(flux["num_single_layers"]):
        for name, shape in {"linear1": (7, 1), "linear2": (1, 5), "modulation_lin": (3, 1)}.items():
            layers[f"single_blocks_{i}_{name}"] = shape
    rank = maker.sizes.lora_rank
    tensors: dict[str, writer.Tensor] = {}
    for name, (rows, columns) in layers.items():
        down = writer.Tensor((rank, columns * width), (columns * width) ** -0.5)
        up = writer.Tensor((rows * width, rank), 0.1 * rank**-0.5)
        tensors[f"lora_unet_{name}.lora_down.weight"] = down
        tensors[f"lora_unet_{name}.lora_up.weight"] = up
    writer.write(folder, file, tensors, torch.bfloat16, maker.device)


def florence(folder: Path, maker: Maker) -> None:
    """Its words are bytes: rows of the embedding that no byte belongs to are 0, so that they are
    never the likeliest, nor is the end. A caption has as many tokens as it may have."""
    from transformers import BartConfig, Florence2Config, Florence2ForConditionalGeneration

    with tempfile.TemporaryDirectory() as temporary:
        tiny = text.build_florence(Path(temporary))
        shutil.copytree(tiny, folder)
    (folder / "model.safetensors").unlink()
    small = Florence2Config.from_pretrained(folder)
    side = maker.sizes.florence_vision["image_size"]
    settings = dict(maker.sizes.florence_vision)
    del settings["image_size"]
    words = BartConfig.from_dict({**small.text_config.to_dict(), **maker.sizes.florence_text})
    config = Florence2Config(
        vision_config=settings, text_config=words.to_dict(), image_token_id=small.image_token_id
    )
    config.save_pretrained(folder)
    for file in ("preprocessor_config.json", "processor_config.json"):
        _resize_processor(folder / file, side)
    with torch.device("meta"):
        module = Florence2ForConditionalGeneration(config)
    place = module.model.multi_modal_projector.visual_temporal_embed
    table = type(place)(config).pos_idx_to_embed
    tensors = writer.of_module(module)
    shared = "model.language_model.shared.weight"
    first = small.image_token_id - len(text.BYTES)  # the bytes come right before it
    nothing = (slice(0, first), slice(first + len(text.BYTES), None))
    tensors[shared] = writer.Tensor(tensors[shared].shape, 1.0, zero_rows=nothing)
    buffer = "model.multi_modal_projector.visual_temporal_embed.pos_idx_to_embed"
    writer.write(folder, "model", tensors, torch.float16, maker.device, constants={buffer: table})


def _resize_processor(path: Path, side: int) -> None:
    """The picture's side, and the tokens that it becomes: one a 32 x 32 patch, one for all."""
    if not path.is_file():
        return
    settings = json.loads(path.read_text())
    inner = settings.get("image_processor", settings)
    inner["size"] = {"height": side, "width": side}
    inner["image_seq_length"] = (side // 32) ** 2 + 1
    path.write_text(json.dumps(settings))


def zero123(folder: Path, maker: Maker) -> None:
    zero123plus.build_zero123plus(folder.parent, maker.sizes.zero123plus, torch.float16)


def flexgen(folder: Path, maker: Maker) -> None:
    zero123plus.build_flexgen(folder.parent, maker.sizes.zero123plus, torch.float16)


def reconstruction(folder: Path, maker: Maker) -> None:
    prm.build_prm(folder.parent, maker.sizes.prm, suffix=".safetensors")


def background_net(folder: Path, _: Maker) -> None:
    build_isnet(folder.parent, BACKGROUND_SIDES[folder.name], folder.name)


@dataclass(frozen=True)
class Recipe:
    """gib: at the published size. make(folder, maker): folder ends in the model's name.

    slow: its numbers come from one thread of the CPU, so it is made beside the others.
    """

    gib: float
    make: Callable[[Path, Maker], None]
    slow: bool = False


RECIPES = {
    "flux1-dev-transformer": Recipe(22.2, flux_transformer),
    "flux1-dev-text": Recipe(9.1, flux_text),
    "flux1-controlnet-union": Recipe(6.2, controlnet_union),
    "zero123plus": Recipe(2.0, zero123, slow=True),
    "flexgen": Recipe(1.7, flexgen, slow=True),
    "florence-2-large": Recipe(1.5, florence),
    "prm": Recipe(1.5, reconstruction, slow=True),
    "flux1-redux": Recipe(0.9, redux),
    "kiss3dgen-lora": Recipe(0.3, lora),
    "kiss3dgen-lora-redux": Recipe(0.3, partial(lora, file="rgb_normal_redux")),
    "flux1-dev-vae": Recipe(0.2, flux_vae),
    "isnet-general-use": Recipe(0.01, background_net),
    "u2net": Recipe(0.01, background_net),
}
"""By catalogue name, the largest first: they are the hardest to find room for."""


def place(names: Iterable[str], folders: Sequence[Path], published: bool) -> dict[str, Path]:
    """The folder for each model that is not there yet.

    Raises OSError when one fits nowhere.
    """
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for rest in folder.glob(".building-*"):
            shutil.rmtree(rest)
    free = {folder: shutil.disk_usage(folder).free - SPARE for folder in folders}
    places = {}
    for name in names:
        if (folders[0] / name).exists():
            continue
        need = int(RECIPES[name].gib * 2**30) if published else 0
        found = next((folder for folder in folders if free[folder] >= need), None)
        if found is None:
            room = ", ".join(f"{folder}: {size / 2**30:.1f}" for folder, size in free.items())
            raise OSError(f"no room for {name}, {need / 2**30:.1f} GiB ({room} GiB)")
        free[found] -= need
        places[name] = found
    return places


def build(name: str, folder: Path, home: Path, maker: Maker) -> int:
    """Make a model in `folder`; `home` is KISS3D_MODELS, where it is linked. Returns its bytes."""
    building = folder / f".building-{name}"
    RECIPES[name].make(building / name, maker)
    (building / name).rename(folder / name)
    building.rmdir()
    if folder != home:
        (home / name).unlink(missing_ok=True)  # a link whose target is gone
        (home / name).symlink_to((folder / name).resolve())
    return sum(file.stat().st_size for file in (folder / name).rglob("*") if file.is_file())


def _resized(folder: Path, config_class: Any, sizes: dict[str, Any]) -> Any:
    known = json.loads((folder / "config.json").read_text())
    return config_class.from_dict({**known, **sizes})


def _edited(path: Path, **values: Any) -> str:
    return json.dumps({**json.loads(path.read_text()), **values})
