"""A Qwen2 instruct model that rewrites a caption into the prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, StoppingCriteriaList

from stages.contract import Context
from stages.models.pretrained import (
    TokenProgress,
    compute_dtype,
    from_folder,
    tokenizer_from_folder,
)
from stages.prompt.instructions import clean, messages
from stages.prompt.int8 import quantize_linears

Quantize = Literal["none", "int8"]


class Rewriter:
    """The model on `context.device`.

    folder: config, tokenizer with its chat template, and weights of a causal language model.
    """

    def __init__(self, folder: Path, quantize: Quantize, context: Context) -> None:
        torch.set_num_threads(context.threads)
        self._device = torch.device(context.device)
        dtype = compute_dtype(context)
        self._tokenizer = tokenizer_from_folder(AutoTokenizer, folder)
        if quantize == "int8":
            model = from_folder(AutoModelForCausalLM, folder)
            quantize_linears(model)
            for parameter in model.parameters():  # not the buffers: rotary tables stay float32
                parameter.data = parameter.data.to(dtype)
        else:
            model = from_folder(AutoModelForCausalLM, folder, dtype)
        self._model = model.to(self._device)

    @torch.inference_mode()
    def rewrite(
        self, caption: str, temperature: float, max_new_tokens: int, context: Context
    ) -> str:
        """The prompt, one line; may be empty. Depends on `context.seed` alone.

        Top-p, top-k and the repetition penalty are those of the model's generation config;
        temperature 0 takes the likeliest token each time.
        """
        question = self._tokenizer.apply_chat_template(
            messages(caption), add_generation_prompt=True, tokenize=False
        )
        tokens = self._tokenizer(question, return_tensors="pt").to(self._device)
        sampling = {"do_sample": True, "temperature": temperature} if temperature > 0.0 else {}
        # Sampling draws from the global generators: seeded for this call, then put back.
        devices = [self._device] if self._device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(context.seed)
            generated = self._model.generate(
                **tokens,
                **(sampling or {"do_sample": False}),
                max_new_tokens=max_new_tokens,
                stopping_criteria=StoppingCriteriaList([TokenProgress(context, max_new_tokens)]),
            )
        answer = generated[0, tokens.input_ids.shape[1] :]
        return clean(self._tokenizer.decode(answer, skip_special_tokens=True))
