"""Tiny tokenizers and the caption and prompt models: Florence-2 and Qwen2 with a few weights.

Tokenizers are byte-level without merges, so any text can be encoded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    BartConfig,
    BartTokenizer,
    CLIPImageProcessor,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
)

BYTES = sorted(ByteLevel.alphabet())

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def vocabulary(*special: str) -> dict[str, int]:
    """Special tokens first, then the 256 bytes."""
    return {token: index for index, token in enumerate([*special, *BYTES])}


def save_tokenizer(tokenizer: Any, path: Path) -> None:
    """All the files that real folders have: tokenizer.json, and its parts beside it."""
    tokenizer.save_pretrained(path, save_jinja_files=False)
    (path / "vocab.json").write_text(json.dumps(tokenizer.get_vocab()))
    (path / "merges.txt").write_text("#version: 0.2\n")


def seeded(make: Any, config: Any, seed: int) -> Any:
    """A model with random weights that are the same every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make(config).eval()


def build_florence(folder: Path, seed: int = 1) -> Path:
    """`florence-2-large`: one block a level, 64 x 64 pixels."""
    path = folder / "florence-2-large"
    tokenizer = BartTokenizer(
        vocab=vocabulary("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
        merges=[],
        extra_special_tokens={"image_token": "<image>"},
    )
    text = BartConfig(
        vocab_size=len(tokenizer),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        max_position_embeddings=1100,
        init_std=0.5,
    )
    vision = {
        "depths": [1, 1, 1, 1],
        "embed_dim": [8, 8, 16, 16],
        "num_heads": [1, 1, 2, 2],
        "num_groups": [1, 1, 2, 2],
        "window_size": 4,
        "projection_dim": 16,
        "max_position_embeddings": 10,
        "max_temporal_embeddings": 5,
        "drop_path_rate": 0.0,
    }
    config = Florence2Config(
        vision_config=vision,
        text_config=text.to_dict(),
        image_token_id=tokenizer.image_token_id,
    )
    seeded(Florence2ForConditionalGeneration, config, seed).save_pretrained(path)
    # 64 pixels are 2 x 2 patches at the last level, and one token more for their mean.
    images = CLIPImageProcessor(
        size={"height": 64, "width": 64}, do_center_crop=False, image_seq_length=5
    )
    processor = Florence2Processor(images, tokenizer, post_processor_config={"pure_text": {}})
    processor.save_pretrained(path)
    save_tokenizer(tokenizer, path)
    return path


def build_qwen(folder: Path, name: str = "qwen2-7b", tied: bool = False, seed: int = 2) -> Path:
    """`qwen2-7b`, or a smaller one whose output layer is `tied` to its embedding."""
    path = folder / name
    tokenizer = Qwen2Tokenizer(
        vocab=vocabulary("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        merges=[],
        chat_template=CHAT_TEMPLATE,
        eos_token="<|im_end|>",
    )
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32768,
        initializer_range=0.3,
        tie_word_embeddings=tied,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = seeded(Qwen2ForCausalLM, config, seed)
    for key, value in {"do_sample": True, "top_p": 0.8, "top_k": 20, "temperature": 0.7}.items():
        setattr(model.generation_config, key, value)
    model.generation_config.repetition_penalty = 1.05
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, 0]
    model.generation_config.pad_token_id = 0
    model.save_pretrained(path)
    save_tokenizer(tokenizer, path)
    return path
