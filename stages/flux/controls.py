"""The pictures that ControlNet-Union is given, one recipe a mode (docs/reference.md, "Flux")."""

from __future__ import annotations

from collections.abc import Mapping

import cv2
import numpy as np
import torch

from stages.contract import BadInput
from stages.flux.params import ControlParams, Mode
from stages.geometry.bundle import join, split

MODE_NUMBER: Mapping[Mode, int] = {
    "canny": 0, "tile": 1, "depth": 2, "blur": 3, "pose": 4, "gray": 5, "lq": 6
}  # fmt: skip
"""What FLUX.1-dev-Controlnet-Union was trained with."""

DOWN_SCALE: Mapping[Mode, int] = {"tile": 1, "lq": 4}
"""The reference's default is 4, but it always passes 1 for tile, which changes nothing."""


def resize_bundle(bundle: np.ndarray, height: int) -> np.ndarray:
    """(2 S, 4 S, 3) float32 in [0, 1] -> (height, 2 height, 3), each tile by itself.

    Tiles are resized apart so that neighbours do not bleed into each other: bicubic, antialiased.
    Raises `BadInput` if it is not a bundle.
    """
    try:
        rows = split(bundle)
    except ValueError as error:
        raise BadInput(str(error)) from error
    side = height // 2
    return join(*(np.stack([_resize(tile, side, side, "bicubic") for tile in row]) for row in rows))


def control_image(bundle: np.ndarray, control: ControlParams) -> np.ndarray:
    """The control image of a mode that is made from the reference bundle.

    bundle: (H, W, 3) float32 in [0, 1]. Returns (H, W, 3) uint8.
    """
    if control.mode in ("tile", "lq"):
        return _degraded(bundle, control.down_scale or DOWN_SCALE[control.mode])
    image = _quantized(bundle)
    if control.mode == "blur":
        # In floats, rounded once at the end, as torchvision blurs bytes.
        size = (control.kernel_size, control.kernel_size)
        exact = image.astype(np.float32)
        blurred = cv2.GaussianBlur(exact, size, control.sigma, borderType=cv2.BORDER_REFLECT_101)
        return np.rint(blurred).astype(np.uint8)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if control.mode == "canny":
        gray = cv2.Canny(gray, control.low, control.high)
    return np.repeat(gray[..., None], 3, axis=-1)


def _degraded(image: np.ndarray, factor: int) -> np.ndarray:
    height, width = image.shape[:2]
    small = _resize(image, height // factor, width // factor, "bilinear")
    return _quantized(_resize(small, height, width, "bilinear"))


def _quantized(image: np.ndarray) -> np.ndarray:
    """Rounded down, as torchvision's ToPILImage does."""
    return (image * 255.0).astype(np.uint8)


def _resize(image: np.ndarray, height: int, width: int, mode: str) -> np.ndarray:
    """(h, w, 3) float32 in [0, 1] -> (height, width, 3), antialiased, still in [0, 1]."""
    if image.shape[:2] == (height, width):
        return image
    planes = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(planes, (height, width), mode=mode, antialias=True)
    return resized[0].permute(1, 2, 0).clamp(0.0, 1.0).numpy()
