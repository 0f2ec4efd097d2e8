"""The two text encoders of FLUX.1: CLIP-L for the pooled embedding, T5-XXL for the tokens."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerFast, T5EncoderModel

from stages.common.pretrained import from_folder, tokenizer_from_folder
from stages.encode.placement import place, visit_in_turn, visiting

log = logging.getLogger(__name__)


class ClipText:
    """folder: of FLUX.1's repository, with text_encoder/ and tokenizer/."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        self._tokenizer = tokenizer_from_folder(CLIPTokenizer, folder / "tokenizer")
        self._model = from_folder(CLIPTextModel, folder / "text_encoder")
        self._device, self._dtype = device, dtype

    def keep_on_device(self) -> None:
        place(self._model, self._device, self._dtype)

    def pooled(self, text: str) -> torch.Tensor:
        """Pooled embedding (P,) of `text`, cut at 77 tokens."""
        tokens = self._tokenizer(
            text,
            padding="max_length",
            max_length=self._tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        with visiting(self._model, self._device, self._dtype):
            pooled: torch.Tensor = self._model(tokens.input_ids.to(self._device)).pooler_output[0]
        return pooled


class T5Text:
    """folder: of FLUX.1's repository, with text_encoder_2/ and tokenizer_2/.

    Blocks visit the device one at a time unless `keep_on_device` is called.
    """

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        # The generic class takes tokenizer.json as it is; T5's own class builds it anew.
        self._tokenizer = tokenizer_from_folder(PreTrainedTokenizerFast, folder / "tokenizer_2")
        self._model = from_folder(T5EncoderModel, folder / "text_encoder_2")
        self._device, self._dtype = device, dtype
        encoder = self._model.encoder
        visit_in_turn([*encoder.block, encoder.final_layer_norm], device, dtype)

    def keep_on_device(self) -> None:
        place(self._model.encoder.block, self._device, self._dtype)

    def tokens(self, text: str, length: int) -> torch.Tensor:
        """Embeddings (length, D) of `text`, padded, or cut with a warning in the log.

        Padding is not masked: FLUX was trained to see it.
        """
        tokens = self._tokenizer(
            text, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        needed = len(self._tokenizer(text).input_ids)
        if needed > length:
            log.warning("the prompt has %d T5 tokens and is cut at %d", needed, length)
        # The vocabulary's table is the largest single weight and is only looked up: it stays.
        embedded = self._model.get_input_embeddings()(tokens.input_ids)
        embedded = embedded.to(self._device, self._dtype)
        hidden: torch.Tensor = self._model(inputs_embeds=embedded).last_hidden_state[0]
        return hidden
