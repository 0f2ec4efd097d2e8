"""The picture as tokens: SigLIP and the Redux embedder, and how they join the text.

What the reference's changed FluxPriorReduxPipeline computes (docs/reference.md, "Flux").
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import SiglipVisionModel

from stages.models.pixels import PixelExtractor
from stages.models.pretrained import from_folder
from stages.models.visit import place, visiting
from stages.weights.checkpoint import load_state_dict, readable

PICTURE_SIDE = 512
"""The reference resizes its picture to this first, then to what SigLIP takes."""


class ReduxEmbedder(nn.Module):
    """SigLIP tokens (N, redux_dim) -> text tokens (N, text_dim): Linear, SiLU, Linear."""

    def __init__(self, redux_dim: int, text_dim: int) -> None:
        super().__init__()
        self.redux_up = nn.Linear(redux_dim, 3 * text_dim)
        self.redux_down = nn.Linear(3 * text_dim, text_dim)

    @classmethod
    def from_folder(cls, folder: Path) -> ReduxEmbedder:
        """From image_embedder/ of the Redux repository; weights stay mapped from the file."""
        file = folder / "diffusion_pytorch_model.safetensors"
        with readable(file):
            state = load_state_dict(file)
            text_dim = len(state["redux_down.bias"])
            with torch.device("meta"):
                embedder = cls(state["redux_up.weight"].shape[1], text_dim)
            embedder.load_state_dict(state, assign=True)
        return embedder.eval().requires_grad_(False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        embedded: torch.Tensor = self.redux_down(functional.silu(self.redux_up(tokens)))
        return embedded


class ReduxImage:
    """folder: of the Redux repository (image_encoder/, image_embedder/, feature_extractor/).

    encoder, embedder  SigLIP, and what makes T5's kind of tokens of what it sees
    """

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        extractor = folder / "feature_extractor"
        with readable(extractor / "preprocessor_config.json"):
            self._extractor = PixelExtractor.load(extractor)
        self.encoder = from_folder(SiglipVisionModel, folder / "image_encoder")
        self.embedder = ReduxEmbedder.from_folder(folder / "image_embedder")
        self._device, self._dtype = device, dtype

    def keep_on_device(self) -> None:
        place(self.encoder, self._device, self._dtype)
        place(self.embedder, self._device, self._dtype)

    def tokens(self, image: np.ndarray) -> torch.Tensor:
        """Tokens (N, D) of a picture (S, S, 3) uint8 sRGB; SigLIP so400m at 384: N = 729."""
        pixels = self._pixels(image).to(self._device, self._dtype)
        with visiting(self.encoder, self._device, self._dtype):
            seen = self.encoder(pixels).last_hidden_state[0]
        with visiting(self.embedder, self._device, self._dtype):
            embedded: torch.Tensor = self.embedder(seen)
        return embedded

    def _pixels(self, image: np.ndarray) -> torch.Tensor:
        """What SigLIP sees, (1, 3, H, W) float32.

        The reference's image processor truncates the resized picture to bytes before Pillow's
        bicubic, which clips: at edges against white an unclipped one overshoots by up to 0.25.
        """
        picture = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255.0
        side = (PICTURE_SIDE, PICTURE_SIDE)
        square = functional.interpolate(picture, side, mode="bilinear", antialias=True)
        truncated = (square[0].permute(1, 2, 0) * 255.0).clamp(0.0, 255.0).byte()
        return self._extractor(truncated.numpy())


def join(text: torch.Tensor, image: torch.Tensor | None, strength: float) -> torch.Tensor:
    """T5 tokens (T, D), then image tokens (N, D) times `strength`: (T + N, D)."""
    return text if image is None else torch.cat([text, image * strength])
