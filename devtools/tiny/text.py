"""Tiny tokenizers and the caption and prompt models: Florence-2 and Qwen2 with a few weights.

Tokenizers are byte-level without merges, so any text can be encoded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
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

ROPE_THETA = 1_000_000.0
"""Qwen2's; transformers would take 10000 if it did not find the key."""

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


def rewrite(file: Path, drop: Iterable[str] = (), **changes: Any) -> None:
    """Give a JSON file the keys that the published one has, whatever today's libraries write."""
    content = json.loads(file.read_text())
    kept = {key: value for key, value in content.items() if key not in drop}
    file.write_text(json.dumps({**kept, **changes}, indent=2))


def older_config(folder: Path, drop: Iterable[str] = (), **changes: Any) -> None:
    """config.json as transformers 4 wrote it: the dtype under its older name."""
    file = folder / "config.json"
    dtype = json.loads(file.read_text())["dtype"]
    dropped = ("dtype", *drop)
    rewrite(file, dropped, torch_dtype=dtype, transformers_version="4.43.3", **changes)


def older_tokenizer(tokenizer: Any, folder: Path, special: Sequence[str], **changes: Any) -> None:
    """tokenizer_config.json as transformers 4 wrote it: with a table of the special tokens."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    table = {
        str(tokenizer.convert_tokens_to_ids(token)): {"content": token, **flags, "special": True}
        for token in special
    }
    file = folder / "tokenizer_config.json"
    dropped = ("backend", "extra_special_tokens", "local_files_only", "is_local")
    rewrite(file, dropped, added_tokens_decoder=table, **changes)


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
    _publish_florence(path, tokenizer)
    return path


def _publish_florence(path: Path, tokenizer: Any) -> None:
    """The files of 2025: the image processor has a file of its own, BART's config older keys."""
    together = json.loads((path / "processor_config.json").read_text())
    images = {**together.pop("image_processor"), "processor_class": "Florence2Processor"}
    (path / "processor_config.json").write_text(json.dumps(together))
    (path / "preprocessor_config.json").write_text(json.dumps(images))
    text = json.loads((path / "config.json").read_text())["text_config"]
    for key in ("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings"):
        text.pop(key, None)
    text |= {"forced_bos_token_id": 0, "no_repeat_ngram_size": 3, "num_beams": 3}
    text |= {"normalize_before": False, "add_bias_logits": False, "early_stopping": True}
    rewrite(path / "config.json", ("tie_word_embeddings",), text_config=text)
    rewrite(
        path / "generation_config.json",
        ("output_attentions", "output_hidden_states", "use_cache"),
        early_stopping=True,
        forced_bos_token_id=0,
        no_repeat_ngram_size=3,
        num_beams=3,
    )
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "<image>"]
    older_tokenizer(
        tokenizer,
        path,
        special,
        additional_special_tokens=["<mask>"],
        clean_up_tokenization_spaces=False,
        extra_special_tokens={"image_token": "<image>"},
        model_max_length=1024,
        tokenizer_class="BartTokenizer",
    )


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
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        tie_word_embeddings=tied,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = seeded(Qwen2ForCausalLM, config, seed)
    for key, value in {"do_sample": True, "top_p": 0.8, "top_k": 20, "temperature": 0.7}.items():
        setattr(model.generation_config, key, value)
    model.generation_config.repetition_penalty = 1.05
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, 0]
    model.generation_config.pad_token_id = 0
    # Several files with an index, as the 7B model comes.
    model.save_pretrained(path, max_shard_size="5GB" if tied else "70KB")
    save_tokenizer(tokenizer, path)
    rope = json.loads((path / "config.json").read_text())["rope_parameters"]
    older_config(
        path,
        ("layer_types", "rope_parameters", "pad_token_id"),
        bos_token_id=0,
        rope_theta=rope["rope_theta"],
        sliding_window=131072,
    )
    ends = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    older_tokenizer(
        tokenizer,
        path,
        ends,
        additional_special_tokens=ends[1:],
        clean_up_tokenization_spaces=False,
        errors="replace",
        model_max_length=131072,
        split_special_tokens=False,
        unk_token=None,
    )
    return path
