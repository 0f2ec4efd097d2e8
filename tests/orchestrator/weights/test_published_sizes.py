"""The catalogue's sizes against what the networks' tensors take, to the byte."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from devtools.published import Tensors, gguf_size, prefixed, safetensors_size, tensors_of
from devtools.tiny.flux import KEPT_IN_GGUF, bfl_state_dict
from devtools.tiny.zero123plus import PUBLISHED, meta_networks
from stages.weights import catalogue

FLUX_VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 16,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
}
T5_XXL = {
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}


def clip_l() -> Tensors:
    return tensors_of(CLIPTextModel(CLIPTextConfig(**CLIP_L)), "BF16", prefixed("text_model."))


def flux_vae() -> Tensors:
    return tensors_of(AutoencoderKL(**FLUX_VAE), "BF16")


def zero123plus_text() -> Tensors:
    return tensors_of(meta_networks(PUBLISHED)[2], "F16", prefixed("text_model."))


def zero123plus_vae() -> Tensors:
    return tensors_of(meta_networks(PUBLISHED)[1], "F16")


def zero123plus_vision() -> Tensors:
    return tensors_of(meta_networks(PUBLISHED)[3], "F16")


@pytest.mark.parametrize(
    ("name", "file", "tensors"),
    [
        ("flux1-dev-text", "text_encoder/model.safetensors", clip_l),
        ("flux1-dev-vae", "vae/diffusion_pytorch_model.safetensors", flux_vae),
        ("zero123plus", "text_encoder/model.safetensors", zero123plus_text),
        ("zero123plus", "vae/diffusion_pytorch_model.safetensors", zero123plus_vae),
        ("zero123plus", "vision_encoder/model.safetensors", zero123plus_vision),
    ],
)
def test_a_published_size_follows_from_the_networks_tensors(
    name: str, file: str, tensors: Callable[[], Tensors]
) -> None:
    with torch.device("meta"):
        assert safetensors_size(tensors()) == catalogue.catalogue()[name].sizes[file]


def test_sharded_files_have_room_for_the_networks_tensors_and_a_header() -> None:
    """Which tensor is in which shard has changed with the libraries; their sum has not."""
    with torch.device("meta"):
        flux = tensors_of(FluxTransformer2DModel(guidance_embeds=True), "BF16")
        t5 = tensors_of(
            T5EncoderModel(T5Config(**T5_XXL)), "BF16", drop="encoder.embed_tokens.weight"
        )
    for name, part, tensors in (
        ("flux1-dev-transformer", "transformer", flux),
        ("flux1-dev-text", "text_encoder_2", t5),
    ):
        shards = {
            file: size
            for file, size in catalogue.catalogue()[name].sizes.items()
            if file.startswith(f"{part}/")
        }
        # Each shard has metadata and padding of its own, and shorter offsets.
        whole = safetensors_size(tensors)
        assert abs(sum(shards.values()) - whole) < 40 * len(tensors), name
    assert len(flux) == 1160
    assert len(t5) == 219


def test_the_gguf_file_has_bfls_names_and_sixteen_bits_for_all_that_is_not_quantised() -> None:
    with torch.device("meta"):
        model = FluxTransformer2DModel(guidance_embeds=True)
        shapes = {name: tuple(t.shape) for name, t in bfl_state_dict(model).items()}
    sizes = catalogue.catalogue()["flux1-dev-gguf-q8"].sizes
    assert gguf_size(shapes, KEPT_IN_GGUF) == sizes["flux1-dev-Q8_0.gguf"]


def test_a_models_gigabytes_are_those_of_its_files() -> None:
    for model in catalogue.catalogue().values():
        if model.sizes:
            gigabytes = sum(model.sizes.values()) / 1e9
            rounded = 0.05 if model.size_gb >= 3.0 else 0.01  # as it is told, and small files
            assert abs(gigabytes - model.size_gb) <= rounded, model.name
            assert catalogue.wanted(model, model.sizes) == sorted(model.sizes), model.name
