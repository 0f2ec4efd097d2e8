"""Which vertices the pictures ask to move, so that the others stay.

Normal maps tell how a surface bends, not how far away it is. Where a mesh is right already, an Adam
still makes full steps of whatever gradient is left: flat walls lean, and drift by pixels, while
their edges are being sharpened. A vertex has to move where its normals differ from the pictures'
by more than a tolerance, or where it is off the outline. The tolerance is for flat parts and what
is near them; where the pictures show curves or detail, every difference counts.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from stages.geometry.diffrender.views import Visible

WINDOW = 15
"""Side in pixels of the window in which normals have to agree for its middle to count as flat."""
FLAT, CURVED = 0.004, 0.012
"""Standard deviation of unit normals in it, up to which it is flat and from which it is not. 8 bits
make 0.002 of a plane; a ball of half the tile's width has 0.02."""
NEAR = 61
"""Side in pixels of the window whose share of flat pixels counts: the rims of flat parts are
themselves not flat, and have to stay where they are too."""
FEW, MANY = 0.1, 0.3
"""That share, at which the tolerance begins and at which it is whole."""
TOLERANCE = 0.15
"""Of a normal, as a length between unit vectors (8.6 degrees): what a blurred plane wavers by."""
RAMP = 1.67
"""A difference of so many tolerances more asks in full."""
NEAR_OUTLINE, OFF_OUTLINE = 0.5, 1.0
"""Pixels between a contour vertex and the silhouette: no reason to move, and a full one."""


def tolerances(normals: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(K, S, S) float32: the difference of normals that each pixel tolerates; 0 where none.

    normals (K, S, S, 3) in [0, 1], (n + 1) / 2; mask (K, S, S) bool.
    """
    return np.stack([_tolerance(*pair) for pair in zip(normals, mask, strict=True)])


def _tolerance(normals: np.ndarray, mask: np.ndarray) -> np.ndarray:
    inside = mask.astype(np.float32)
    vectors = 2.0 * normals.astype(np.float32) - 1.0
    vectors /= np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)
    mean = _mean_inside(vectors, inside, WINDOW)
    spread = np.sqrt(np.maximum(1.0 - np.square(mean).sum(axis=-1), 0.0))
    flat = np.clip((CURVED - spread) / (CURVED - FLAT), 0.0, 1.0)
    share = _mean_inside(flat[..., None], inside, NEAR)[..., 0]
    return np.float32(TOLERANCE) * np.clip((share - FEW) / (MANY - FEW), 0.0, 1.0) * inside


def _mean_inside(values: np.ndarray, inside: np.ndarray, side: int) -> np.ndarray:
    """(S, S, C) mean over the pixels of a window that are inside; 0 where there is none."""
    total = cv2.blur(values * inside[..., None], (side, side)).reshape(values.shape)
    return np.asarray(total / np.maximum(cv2.blur(inside, (side, side)), 1e-6)[..., None])


@torch.no_grad()
def asked(
    image: Tensor,
    wanted: Tensor,
    tolerance: Tensor,
    visible: Visible,
    faces: Tensor,
    off: Tensor,
) -> Tensor:
    """(V, 1) in [0, 1]: how much the pictures ask each vertex to move; 1 of what no pixel shows.

    image (A, 4+) and wanted (K, S, S, 3+), normals in [0, 1]; tolerance (K, S, S) of `tolerances`;
    visible and faces (F, 3) of the same mesh; off (V,) pixels between a vertex and the outline.
    """
    pixels = visible.region.pixels
    face = visible.face.reshape(-1)[pixels]
    rows = torch.nonzero(face >= 0)[:, 0]
    shown = pixels[rows]
    target = wanted.reshape(-1, wanted.shape[-1])[shown, :3]
    error = 2.0 * (image[rows, :3].detach() - target).norm(dim=1)
    fits = tolerance.reshape(-1)[shown]
    ask = torch.where(fits > 0.0, ((error - fits) / (RAMP * fits + 1e-6)).clamp(0.0, 1.0), 1.0)
    total = error.new_zeros(len(off), 2)
    pair = torch.stack([ask, torch.ones_like(ask)], dim=1)
    corners = faces[face[rows]]
    for k in range(3):
        total.index_add_(0, corners[:, k], pair)
    mean = torch.where(total[:, 1] > 0.0, total[:, 0] / total[:, 1].clamp(min=1.0), 1.0)
    outline = ((off - NEAR_OUTLINE) / (OFF_OUTLINE - NEAR_OUTLINE)).clamp(0.0, 1.0)
    return torch.maximum(mean, outline)[:, None]
