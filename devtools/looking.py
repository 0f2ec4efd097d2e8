"""What a test sees of a page in a browser."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from devtools.patience import eventually


def pixels(locator: Any) -> np.ndarray:
    """What is seen of an element, (H, W, 3) uint8."""
    with Image.open(io.BytesIO(locator.screenshot())) as picture:
        return np.asarray(picture.convert("RGB"))


def shown(locator: Any) -> np.ndarray:
    """The same, as soon as there is more to be seen than the background."""
    last: list[np.ndarray] = []

    def drawn() -> bool:
        last[:] = [pixels(locator)]
        return share_of_object(last[0]) > 0.02

    assert eventually(drawn)
    return last[0]


def share_of_object(picture: np.ndarray) -> float:
    """How much of a picture differs from its corner."""
    return float(_object(picture).mean())


def columns_of_object(picture: np.ndarray) -> np.ndarray:
    """Which columns of a picture have something that differs from its corner, (W - 16,) bool."""
    return np.asarray(_object(picture).any(axis=0))


def _object(picture: np.ndarray) -> np.ndarray:
    """Where a picture differs from its corner, without its rim, (H - 16, W - 16) bool."""
    inner = picture[8:-8, 8:-8].astype(int)
    return np.asarray(np.abs(inner - inner[0, 0]).max(axis=-1) > 40)


def reds(picture: np.ndarray) -> float:
    """How much of the object is red and not blue."""
    red, blue = picture[..., 0].astype(int), picture[..., 2].astype(int)
    return float((red > blue + 60).sum() / max(1, (np.abs(red - blue) > 60).sum()))
