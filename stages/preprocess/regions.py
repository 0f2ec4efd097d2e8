"""Connected regions of a mask.

By OpenCV, which this stage has loaded anyway: importing SciPy's took six times as long as cutting
out a picture does.
"""

from __future__ import annotations

import cv2
import numpy as np

MIN_COMPONENT = 0.01
"""A component smaller than this share of the largest one is dust."""


def label_regions(mask: np.ndarray, diagonal: bool = False) -> tuple[np.ndarray, int]:
    """(h, w) bool -> (h, w) int32, 0 outside and 1..count in its regions, and their count.

    diagonal: whether pixels that touch at a corner belong together.
    """
    found, labels = cv2.connectedComponents(
        mask.astype(np.uint8), connectivity=8 if diagonal else 4
    )
    return labels, found - 1


def boxes_of_regions(mask: np.ndarray) -> tuple[np.ndarray, list[tuple[slice, slice]]]:
    """The labels of the regions, diagonal neighbours together, and the box of each, 1 first."""
    found, labels, stats, _ = cv2.connectedComponentsWithStats(
        mask.astype(np.uint8), connectivity=8
    )
    boxes = [
        (slice(top, top + height), slice(left, left + width))
        for left, top, width, height, _ in stats[1:found].tolist()
    ]
    return labels, boxes


def significant(mask: np.ndarray) -> np.ndarray:
    """`mask` (h, w) bool without components much smaller than the largest one."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    area = stats[:, cv2.CC_STAT_AREA].copy()
    area[0] = 0
    wanted = area >= max(1.0, MIN_COMPONENT * float(area.max()))
    kept: np.ndarray = wanted[labels]
    return kept
