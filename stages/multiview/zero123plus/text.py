"""The empty prompt, as token ids.

Zero123++ is always asked with "". Its ids follow from three special tokens, so they are built from
the tokenizer's files here. That does not depend on how a version of transformers settles which of
them names the padding: in Stable Diffusion 2's files special_tokens_map.json ("!", id 0)
contradicts tokenizer_config.json ("<|endoftext|>"), and the former is what the model was trained
with.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def empty_prompt_ids(tokenizer: Path, length: int) -> list[int]:
    """Beginning, end, padding up to `length`.

    tokenizer: folder with vocab.json and special_tokens_map.json. Raises KeyError or OSError if
    these do not name the tokens.
    """
    vocabulary = _read(tokenizer / "vocab.json")
    special = _read(tokenizer / "special_tokens_map.json")
    begin, end, padding = (
        int(vocabulary[_content(special[name])]) for name in ("bos_token", "eos_token", "pad_token")
    )
    return [begin, end, *[padding] * (length - 2)]


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _content(token: str | dict[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])
