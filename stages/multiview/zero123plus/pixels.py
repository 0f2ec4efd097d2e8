"""From the stage's picture to the pixels that CLIP and the VAE see.

Pillow does the resizing, as in the image processors that the model was trained with; torchvision's,
which transformers now prefers, differs from it by up to a grey level. So the few steps of those
processors that the model uses are written out here, with the numbers from its preprocessor_config.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image


@dataclass(frozen=True)
class PixelExtractor:
    """Resize a square picture to `side` x `side`, subtract `mean`, divide by `std` (of [0, 1])."""

    side: int
    resample: Image.Resampling
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def load(cls, folder: Path) -> PixelExtractor:
        """From a transformers `preprocessor_config.json`: shortest edge, then centre crop.

        Raises ValueError if resize and crop differ, which would crop a square picture.
        """
        path = folder / "preprocessor_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        side, crop = _side(config["size"]), _side(config["crop_size"])
        if side != crop:
            raise ValueError(f"{path}: resizes to {side} and crops to {crop}; expected the same")
        return cls(
            side,
            Image.Resampling(config["resample"]),
            tuple(config["image_mean"]),
            tuple(config["image_std"]),
        )

    def __call__(self, image: np.ndarray) -> torch.Tensor:
        """(S, S, 3) uint8 -> (1, 3, side, side) float32."""
        resized = Image.fromarray(image).resize((self.side, self.side), self.resample)
        unit = np.asarray(resized, np.float32) / 255.0
        values = (unit - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return torch.from_numpy(values).permute(2, 0, 1)[None]


def _side(size: int | dict[str, Any]) -> int:
    """One side, from any of the ways in which a preprocessor_config writes it."""
    if isinstance(size, int):
        return size
    return int(size.get("shortest_edge") or size["height"])
