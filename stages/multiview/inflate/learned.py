"""Front and thickness of an object as the sketch's network sees them, ready to be welded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt

from stages.geometry.cameras import bundle_cameras
from stages.geometry.normal_integration import integrate_normals
from stages.models.sketch_net import SIDE

if TYPE_CHECKING:
    from stages.models.sketch_net.predict import Sketch

ANCHOR = 0.1
"""Pull of the network's depth at an expected error of `USUAL_ERROR`, against its normals."""
USUAL_ERROR = 0.05
LEAST_ERROR = 0.02
"""Half widths; the network's expectation is not believed below it."""
PLAIN = 4.0
"""Standard deviation of the blur, pixels: the network's doubt shows as dents of twice that."""
THINNEST = 0.02
"""Half widths."""

See = Callable[[np.ndarray], "Sketch"]
"""(256, 256, 3) uint8 -> what the network says of it."""


@dataclass(frozen=True)
class Sheets:
    """(256, 256) float64 each, in half widths of the picture at the object's middle, defined beyond
    the outline too.

    front      towards the camera
    thickness  > 0, from the front to the last surface on the same ray
    plain      of a back without what is small: for its normals, as the back is a guess
    albedo     (256, 256, 3) float32 sRGB in [0, 1], the object's colours without light and shade
    elevation  of the camera above the object's ground, radians
    """

    front: np.ndarray
    thickness: np.ndarray
    plain: np.ndarray
    albedo: np.ndarray
    elevation: float

    def fitted(self, scale: float, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Front, thickness and plain thickness, (size, size), of the picture shrunk by `scale`
        about its middle."""
        front, thickness, plain = (
            scale * _shrunk(values, scale, size)
            for values in (self.front, self.thickness, self.plain)
        )
        return front, thickness, plain

    def colours(self, scale: float, size: int) -> np.ndarray:
        """`albedo`, (size, size, 3), of the picture shrunk by `scale` about its middle."""
        return _shrunk(self.albedo, scale, size)


def _shrunk(values: np.ndarray, scale: float, size: int) -> np.ndarray:
    """(256, 256, ...) `values` of a picture at (size, size) pixels, shrunk about its middle; beyond
    the picture its border's values go on."""
    ratio = SIDE / size / scale
    shift = SIDE / 2.0 * (1.0 - 1.0 / scale) - 0.5 + 0.5 * ratio
    warp = np.array([[ratio, 0.0, shift], [0.0, ratio, shift]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(values, warp, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def see_sheets(see: See, picture: np.ndarray, alpha: np.ndarray) -> Sheets:
    """What the network sees, its depths sharpened by its normals; values go on beyond the outline.

    picture  (S, S, 3) float32 in [0, 1], on white
    alpha    (S, S) float32 in [0, 1], not empty
    """
    small = cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    told = see(np.rint(small * 255.0).astype(np.uint8))
    inside = cv2.resize(alpha, (SIDE, SIDE), interpolation=cv2.INTER_AREA) > 0.5
    if not inside.any():  # a thread: inflate_body tells what cannot be seen at all
        inside = cv2.resize(alpha, (SIDE, SIDE), interpolation=cv2.INTER_AREA) > 0.0
    error = np.maximum(told.front_error, LEAST_ERROR).astype(np.float64)
    known = _trusted(inside)
    anchor = ANCHOR * (USUAL_ERROR / error) ** 2
    front = integrate_normals(told.front, told.normal, known, bundle_cameras()[0].focal, anchor)
    thickness = np.maximum(told.thickness.astype(np.float64), THINNEST)
    blurred = _blurred(front - thickness, np.where(known, told.certainty, 0.0))
    return Sheets(
        front=_spread(front, known),
        thickness=_spread(thickness, known),
        plain=_spread(front - blurred, known),
        albedo=_spread(np.clip(told.albedo, 0.0, 1.0).astype(np.float32), known),
        elevation=told.elevation,
    )


def _blurred(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Mean of the values around each pixel by their weights; as it is where nothing has any."""
    total = cv2.GaussianBlur(weight * values, (0, 0), PLAIN)
    share = cv2.GaussianBlur(weight.astype(np.float64), (0, 0), PLAIN)
    return np.asarray(np.where(share > 1e-6, total / np.maximum(share, 1e-6), values))


def _trusted(inside: np.ndarray) -> np.ndarray:
    """Pixels whose values are the object's own: not those at the outline, but all of thin parts."""
    inner = binary_erosion(inside)
    return np.asarray(inner | (inside & ~binary_dilation(inner, iterations=2)))


def _spread(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Elsewhere the value of the nearest known pixel."""
    rows, columns = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.ascontiguousarray(values[rows, columns])
