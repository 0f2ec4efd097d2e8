"""From a picture to the numbers that a CLIP-like image encoder was trained on.

Pillow does the resizing, as in the image processors that the models were trained with;
torchvision's, which transformers now prefers, differs from it by up to a grey level. So the few
steps of those processors that the models use are written out here, with the numbers of
`preprocessor_config.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

CHANNELS = 3


@dataclass(frozen=True)
class PixelExtractor:
    """Resize a square picture to `side` x `side`, subtract `mean`, divide by `std` (of [0, 1])."""

    side: int
    resample: Image.Resampling
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def load(cls, folder: Path) -> PixelExtractor:
        """From transformers' `preprocessor_config.json` in `folder`: resize, then centre crop.

        Sizes may be a number, `shortest_edge` or `height` and `width`; mean and std one number for
        all channels (Zero123++'s VAE extractor) or a list. A file without crop_size (SigLIP) does
        not crop. Raises ValueError if the steps would crop or stretch a square picture, or if mean
        and std are not of three channels.
        """
        path = folder / "preprocessor_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        side = _side(config["size"], path)
        crop = _side(config["crop_size"], path) if config.get("crop_size") else side
        if side != crop:
            raise ValueError(f"{path}: resizes to {side} and crops to {crop}; expected the same")
        return cls(
            side,
            Image.Resampling(config["resample"]),
            _by_channel(config["image_mean"], path),
            _by_channel(config["image_std"], path),
        )

    def __call__(self, image: np.ndarray) -> torch.Tensor:
        """(S, S, 3) uint8 -> (1, 3, side, side) float32."""
        resized = Image.fromarray(image).resize((self.side, self.side), self.resample)
        unit = np.asarray(resized, np.float32) / 255.0
        values = (unit - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return torch.from_numpy(values).permute(2, 0, 1)[None]


def _side(size: int | dict[str, Any], path: Path) -> int:
    if isinstance(size, int):
        return size
    sides = {int(size[name]) for name in ("shortest_edge", "height", "width") if size.get(name)}
    if len(sides) != 1:
        raise ValueError(f"{path}: expected the size of a square, found {size}")
    return sides.pop()


def _by_channel(value: float | list[float], path: Path) -> tuple[float, ...]:
    values = tuple(value) if isinstance(value, list) else (value,) * CHANNELS
    if len(values) != CHANNELS:
        raise ValueError(f"{path}: expected {CHANNELS} channels, found {value}")
    return values
