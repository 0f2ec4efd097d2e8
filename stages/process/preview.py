"""What a stage shows on the way, made small enough for a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MOST_BYTES = 96 << 10
"""128 x 256 pixels: a bundle of 1024 x 2048 at an eighth. A message holds 128 KiB."""


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 -> the same with every n-th row and column, of at most `MOST_BYTES`.

    Raises ValueError for anything else.
    """
    import numpy as np

    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
        raise ValueError(f"not an (H, W, 3) uint8 picture: {pixels.dtype} {pixels.shape}")
    step = 1
    while pixels[::step, ::step].size > MOST_BYTES:
        step += 1
    return np.ascontiguousarray(pixels[::step, ::step])
