"""FLUX's token layout, and noise that depends on the seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch


def pack(latents: torch.Tensor) -> torch.Tensor:
    """(1, C, h, w) latents -> (1, h/2 * w/2, 4 C) tokens of 2 x 2 patches.

    Tokens run row by row; inside one the index is 4 c + 2 dy + dx.
    """
    batch, channels, height, width = latents.shape
    patches = latents.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * 4)


def unpack(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """The inverse of `pack`: (1, L, 4 C) -> (1, C, height, width), sizes in latents."""
    batch, _, size = tokens.shape
    patches = tokens.reshape(batch, height // 2, width // 2, size // 4, 2, 2)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(batch, size // 4, height, width)


def image_ids(height: int, width: int, device: torch.device | str) -> torch.Tensor:
    """(L, 3) float32 positions (0, row, column) of the tokens of a (height, width) latent."""
    rows = torch.arange(height // 2, device=device, dtype=torch.float32)
    columns = torch.arange(width // 2, device=device, dtype=torch.float32)
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)
    return torch.nn.functional.pad(grid, (1, 0)).reshape(-1, 3)


class LatentNoise:
    """Normal deviates from one generator, in the order in which they are asked for.

    where    cpu: float32 on the CPU, so that every card gets the same numbers; device: on `device`
             in `dtype`, as the reference draws them
    """

    def __init__(
        self, seed: int, where: Literal["cpu", "device"], device: torch.device, dtype: torch.dtype
    ) -> None:
        self._device = device
        self._dtype = torch.float32 if where == "cpu" else dtype
        self._generator = torch.Generator("cpu" if where == "cpu" else device).manual_seed(seed)

    def draw(self, shape: Sequence[int]) -> torch.Tensor:
        """float32 on the device that was named."""
        drawn = torch.randn(
            tuple(shape),
            generator=self._generator,
            device=self._generator.device,
            dtype=self._dtype,
        )
        return drawn.to(self._device, torch.float32)
