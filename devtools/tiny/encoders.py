"""Tiny text and image encoders of FLUX.1-dev and FLUX.1-Redux-dev."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

from devtools.tiny.text import BYTES, older_config, older_tokenizer, rewrite, save_tokenizer, seeded

TEXT_DIM = 32
"""Width of T5's tokens (FLUX.1-dev: 4096)."""
POOLED_DIM = 32
"""Width of CLIP's pooled embedding (FLUX.1-dev: 768)."""
IMAGE_TOKENS = 9
"""SigLIP's tokens (FLUX.1-Redux-dev: 729)."""


CLIP_LAYERS, CLIP_INNER = 2, 48


def clip_linear_layers() -> dict[str, tuple[int, int]]:
    """(out, in) of the linear layers of the tiny CLIP, by module name."""
    sizes = {f"self_attn.{part}_proj": (POOLED_DIM, POOLED_DIM) for part in ("q", "k", "v", "out")}
    sizes |= {"mlp.fc1": (CLIP_INNER, POOLED_DIM), "mlp.fc2": (POOLED_DIM, CLIP_INNER)}
    return {
        f"encoder.layers.{i}.{name}": size
        for i in range(CLIP_LAYERS)
        for name, size in sizes.items()
    }


def prefix_keys(folder: Path, prefix: str) -> None:
    """Name the weights as the published files do; newer transformers save them without."""
    file = folder / "model.safetensors"
    tensors = {f"{prefix}{key.removeprefix(prefix)}": t for key, t in load_file(file).items()}
    # The old file is mapped by these tensors, so the new one takes its place when complete.
    save_file(tensors, folder / "new.safetensors", {"format": "pt"})
    (folder / "new.safetensors").replace(file)


def build_flux_text(folder: Path, seed: int = 3) -> Path:
    """`flux1-dev-text`: text_encoder, text_encoder_2, tokenizer, tokenizer_2."""
    path = folder / "flux1-dev-text"
    ends = ["<|startoftext|>", "<|endoftext|>"]
    tokens = [*BYTES, *(byte + "</w>" for byte in BYTES), *ends]
    clip_tokenizer = CLIPTokenizer(
        vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=77
    )
    save_tokenizer(clip_tokenizer, path / "tokenizer")
    (path / "tokenizer" / "tokenizer.json").unlink()  # FLUX.1-dev has none either
    older_tokenizer(
        clip_tokenizer,
        path / "tokenizer",
        ends,
        add_prefix_space=False,
        clean_up_tokenization_spaces=True,
        do_lower_case=True,
        errors="replace",
        tokenizer_class="CLIPTokenizer",
    )
    (path / "tokenizer" / "special_tokens_map.json").write_text(
        json.dumps({"bos_token": ends[0], **dict.fromkeys(("eos_token", "pad_token"), ends[1])})
    )
    clip = CLIPTextConfig(
        vocab_size=len(tokens),
        hidden_size=POOLED_DIM,
        intermediate_size=CLIP_INNER,
        num_hidden_layers=CLIP_LAYERS,
        num_attention_heads=2,
        projection_dim=POOLED_DIM,
        # As published, although the tokenizer says otherwise: the pooled token is then the one of
        # the highest id.
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )
    seeded(CLIPTextModel, clip, seed).save_pretrained(path / "text_encoder")
    prefix_keys(path / "text_encoder", "text_model.")
    older_config(path / "text_encoder")

    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in letters]
    t5_tokenizer = T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=512)
    t5_tokenizer.save_pretrained(path / "tokenizer_2")
    t5_special = ["<pad>", "</s>", "<unk>"]
    older_tokenizer(
        t5_tokenizer,
        path / "tokenizer_2",
        t5_special,
        additional_special_tokens=[],
        clean_up_tokenization_spaces=True,
        legacy=True,
        tokenizer_class="T5Tokenizer",
    )
    names = ("pad_token", "eos_token", "unk_token")
    (path / "tokenizer_2" / "special_tokens_map.json").write_text(
        json.dumps(dict(zip(names, t5_special, strict=True)))
    )
    (path / "tokenizer_2" / "spiece.model").write_bytes(b"is there, and is not read")
    t5 = T5Config(
        vocab_size=len(pieces) + 4,
        d_model=TEXT_DIM,
        d_kv=8,
        d_ff=64,
        num_layers=3,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    # Several files with an index, as T5-XXL comes.
    seeded(T5EncoderModel, t5, seed + 1).save_pretrained(
        path / "text_encoder_2", max_shard_size="60KB"
    )
    older_config(
        path / "text_encoder_2",
        decoder_start_token_id=0,
        is_encoder_decoder=True,
        num_decoder_layers=3,
        output_past=True,
        tie_word_embeddings=False,  # the table of tokens is there once all the same
    )
    return path


def build_redux(folder: Path, seed: int = 5) -> Path:
    """`flux1-redux`: image_encoder, image_embedder, feature_extractor."""
    path = folder / "flux1-redux"
    siglip = SiglipVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=24,
        patch_size=8,
    )
    seeded(SiglipVisionModel, siglip, seed).save_pretrained(path / "image_encoder")
    prefix_keys(path / "image_encoder", "vision_model.")
    older_config(path / "image_encoder", ("vision_use_head",))
    extractor = SiglipImageProcessor(
        size={"height": 24, "width": 24}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    extractor.save_pretrained(path / "feature_extractor")
    rewrite(
        path / "feature_extractor" / "preprocessor_config.json",
        do_convert_rgb=None,
        processor_class="SiglipProcessor",
    )
    build_embedder(path / "image_embedder", siglip.hidden_size, seed + 1)
    return path


def build_embedder(folder: Path, width: int, seed: int) -> None:
    """As diffusers saves its ReduxImageEncoder, which takes seconds to import."""
    folder.mkdir(parents=True)
    config = {
        "_class_name": "ReduxImageEncoder",
        "_diffusers_version": "0.32.0",
        "redux_dim": width,
        "txt_in_features": TEXT_DIM,
    }
    (folder / "config.json").write_text(json.dumps(config))
    random = torch.Generator().manual_seed(seed)
    shapes = {
        "redux_up.weight": (3 * TEXT_DIM, width),
        "redux_up.bias": (3 * TEXT_DIM,),
        "redux_down.weight": (TEXT_DIM, 3 * TEXT_DIM),
        "redux_down.bias": (TEXT_DIM,),
    }
    tensors = {name: 0.2 * torch.randn(shape, generator=random) for name, shape in shapes.items()}
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors", {"format": "pt"})
