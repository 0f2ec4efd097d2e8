"""What is drawn in thin lines alone is a wire, and nothing else is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from stages.models.sketch_net import SIDE
from stages.multiview.inflate.wires import wired

PIXEL = 2.0 / SIDE


def glasses(line: float) -> np.ndarray:
    """A mask of two rings and a bridge, in lines of so many pixels."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    rings = [np.hypot(rows - 128, columns - middle) for middle in (70, 186)]
    known = np.minimum(*(np.abs(ring - 45.0) for ring in rings)) < line / 2.0
    bridge = (np.abs(rows - 128) < line / 2.0) & (np.abs(columns - 128) < 14)
    return np.asarray(known | bridge)


def ragged(known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ribbons .4 deep whose edges waver by as much."""
    noise = 0.2 * np.random.default_rng(0).random((2, *known.shape))
    return 0.2 + noise[0], -0.2 - noise[1]


@pytest.mark.parametrize("line", [3.0, 7.0])
def test_thin_lines_are_as_deep_as_broad_and_lie_smoothly(line: float) -> None:
    known = glasses(line)
    front, back = wired(*ragged(known), known)
    thickness = (front - back)[known] / PIXEL
    assert (thickness > 0.0).all()
    assert 0.6 * line < np.quantile(thickness, 0.9) < 1.6 * line
    assert np.ptp(((front + back) / 2.0)[known]) < 0.1


def test_their_section_is_round() -> None:
    known = glasses(8.0)
    front, back = wired(*ragged(known), known)
    edge = cv2.distanceTransform(known.astype(np.uint8), cv2.DIST_L2, 5)
    thickness = (front - back) / PIXEL
    assert np.median(thickness[known & (edge < 1.5)]) < 0.8 * np.median(thickness[edge > 3.0])


def test_with_one_broad_part_nothing_is_changed() -> None:
    known = glasses(5.0)
    cv2.circle(shade := np.zeros(known.shape, np.uint8), (128, 200), 20, 1, -1)
    known |= shade > 0
    front, back = ragged(known)
    changed = wired(front, back, known)
    assert changed[0] is front
    assert changed[1] is back
