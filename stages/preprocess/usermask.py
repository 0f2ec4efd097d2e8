"""A mask that the user has made: a picture of the same shape, white or opaque = object."""

from __future__ import annotations

import cv2
import numpy as np

from stages.contract import BadInput
from stages.preprocess.decode import decode
from stages.preprocess.limits import SizeError

MAX_SKEW = 0.02
"""By how much the sides' ratio may differ from the picture's: rounding, when it was scaled."""

_HINT = "Make it in the picture's own size: white is the object, black the background."

SAYS_SO = "The mask says so: in it white is the object, black the background."
"""What to look at where a mask leaves next to nothing of the picture."""


def read_mask(data: bytes, shape: tuple[int, ...], max_bytes: int, max_pixels: int) -> np.ndarray:
    """(H, W) uint8 for a picture of that shape, 255 = object; scaled to it.

    An alpha channel that is not opaque all over is the mask, else the brightness is. Raises
    `BadInput` for a file that is no picture, has another aspect ratio, or shows no object.
    """
    try:
        rgba = decode(data, max_bytes=max_bytes, max_pixels=max_pixels, what="the mask").rgba
    except SizeError as error:  # the picture itself has a size that will do
        raise BadInput(error.message, _HINT) from error
    except BadInput as error:
        raise BadInput(f"the mask cannot be read: {error.message}", error.hint) from error
    height, width = shape[:2]
    ratio = (rgba.shape[1] / rgba.shape[0]) / (width / height)
    if abs(ratio - 1.0) > MAX_SKEW:
        raise BadInput(
            f"the mask has {rgba.shape[1]} x {rgba.shape[0]} pixels, the picture {width} x "
            f"{height}: they differ in shape",
            _HINT,
        )
    alpha = rgba[..., 3]
    values = alpha if int(alpha.min()) < 255 else cv2.cvtColor(rgba, cv2.COLOR_RGBA2GRAY)
    if int(values.max()) <= 127:
        raise BadInput("the mask shows no object: nothing in it is brighter than half", _HINT)
    if values.shape != (height, width):
        area = cv2.INTER_AREA if values.shape[0] > height else cv2.INTER_LINEAR
        values = cv2.resize(values, (width, height), interpolation=area)
    return np.ascontiguousarray(values)
