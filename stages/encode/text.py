"""The two text encoders of FLUX.1: CLIP-L for the pooled embedding, T5-XXL for the tokens."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer, PreTrainedTokenizerFast, T5EncoderModel

from stages.encode.clip_lora import merge_loras
from stages.encode.placement import visit_in_turn
from stages.models.lora_params import LoraChoice
from stages.models.pretrained import from_folder, tokenizer_from_folder
from stages.models.visit import place, release, visiting
from stages.streaming.models import StreamedModels, stream
from stages.streaming.net import Net
from stages.streaming.source import open_tensors

log = logging.getLogger(__name__)


class ClipText:
    """folder: of FLUX.1's repository, with text_encoder/ and tokenizer/.

    loras  are merged into it, as far as they change CLIP
    """

    def __init__(
        self,
        folder: Path,
        device: torch.device,
        dtype: torch.dtype,
        loras: Sequence[LoraChoice] = (),
    ) -> None:
        self._tokenizer = tokenizer_from_folder(CLIPTokenizer, folder / "tokenizer")
        self.model = from_folder(CLIPTextModel, folder / "text_encoder")
        self._device, self._dtype = device, dtype
        merge_loras(self.model, loras, dtype)

    def keep_on_device(self) -> None:
        place(self.model, self._device, self._dtype)

    def pooled(self, text: str) -> torch.Tensor:
        """Pooled embedding (P,) of `text`, cut at 77 tokens."""
        tokens = self._tokenizer(
            text,
            padding="max_length",
            max_length=self._tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        with visiting(self.model, self._device, self._dtype):
            pooled: torch.Tensor = self.model(tokens.input_ids.to(self._device)).pooler_output[0]
        return pooled


class T5Text:
    """folder: of FLUX.1's repository, with text_encoder_2/ and tokenizer_2/.

    model  its weights stay mapped from the files, but for what is computed with

    Call one of `keep_on_device`, `visit_by_block` and `stream`, then `tokens` as often as wanted.
    """

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        # The generic class takes tokenizer.json as it is; T5's own class builds it anew.
        self._tokenizer = tokenizer_from_folder(PreTrainedTokenizerFast, folder / "tokenizer_2")
        self._folder = folder / "text_encoder_2"
        self.model = from_folder(T5EncoderModel, self._folder)
        self._device, self._dtype = device, dtype
        self._streamed: StreamedModels | None = None

    def keep_on_device(self) -> None:
        encoder = self.model.encoder
        place(encoder.block, self._device, self._dtype)
        place(encoder.final_layer_norm, self._device, self._dtype)

    def visit_by_block(self) -> None:
        """Weights stay mapped; each block gets its copies, where it needs any, for its turn."""
        encoder = self.model.encoder
        visit_in_turn([*encoder.block, encoder.final_layer_norm], self._device, self._dtype)

    def stream(self, weights_bytes: int, host_bytes: int) -> None:
        """Blocks are read ahead while others compute (docs/streaming.md).

        weights_bytes: on the device; host_bytes: of registered memory. Raises StageError
        (out_of_memory) where they are too small; call `close` in the end.
        """
        encoder = self.model.encoder
        # Without the vocabulary's table, which stays mapped.
        module = nn.ModuleDict({"block": encoder.block, "norm": encoder.final_layer_norm})
        module.to_empty(device="meta")
        tensors = open_tensors(self._folder)
        found = {
            f"{own}.{key.removeprefix(theirs)}": tensor
            for own, theirs in (("block", "encoder.block."), ("norm", "encoder.final_layer_norm."))
            for key, tensor in tensors.items()
            if key.startswith(theirs)
        }
        self._streamed = stream(
            {"t5": Net(module, found, ("block",))},
            vram_bytes=weights_bytes,
            host_bytes=host_bytes,
            device=self._device,
            dtype=self._dtype,
            enter_card=False,
        )

    def close(self) -> None:
        if self._streamed is not None:
            self._streamed.close()

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
        embedded = self.model.get_input_embeddings()(tokens.input_ids)
        embedded = embedded.to(self._device, self._dtype)
        with self._on_device():
            hidden: torch.Tensor = self.model(inputs_embeds=embedded).last_hidden_state[0]
        return hidden

    @contextlib.contextmanager
    def _on_device(self) -> Iterator[None]:
        """What is streamed is there; afterwards the device is the other encoders'."""
        if self._streamed is None:
            yield
            return
        try:
            self._streamed.enter_card()
            yield
        finally:
            self._streamed.leave_card()
            release(self._device)
