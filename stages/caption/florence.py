"""Florence-2 as transformers has it, without the remote code of the first checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import (
    Florence2ForConditionalGeneration,
    Florence2Processor,
    StoppingCriteriaList,
)

from stages.contract import Context
from stages.models.pretrained import (
    TokenProgress,
    compute_dtype,
    from_folder,
    tokenizer_from_folder,
)

TASK = "<MORE_DETAILED_CAPTION>"


class Florence:
    """The model on `context.device`.

    folder: config, tokenizer, processor and weights in the format of florence-community.
    """

    def __init__(self, folder: Path, context: Context) -> None:
        torch.set_num_threads(context.threads)
        self._device = torch.device(context.device)
        self._dtype = compute_dtype(context)
        self._processor = tokenizer_from_folder(Florence2Processor, folder)
        model = from_folder(Florence2ForConditionalGeneration, folder, self._dtype)
        self._model = model.to(self._device)

    @torch.inference_mode()
    def describe(
        self, image: np.ndarray, num_beams: int, max_new_tokens: int, context: Context
    ) -> str:
        """A detailed caption of a picture (H, W, 3) uint8 sRGB, on one line; may be empty."""
        picture = Image.fromarray(np.ascontiguousarray(image))
        prepared = self._processor(text=TASK, images=picture, return_tensors="pt")
        generated = self._model.generate(
            **prepared.to(self._device, self._dtype),
            num_beams=num_beams,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            stopping_criteria=StoppingCriteriaList([TokenProgress(context, max_new_tokens)]),
        )
        # With its special tokens: other tasks answer in them, and the parser takes them out.
        text = self._processor.batch_decode(generated, skip_special_tokens=False)[0]
        parsed = self._processor.post_process_generation(text, task=TASK, image_size=picture.size)
        return " ".join(parsed[TASK].replace("<pad>", "").split())
