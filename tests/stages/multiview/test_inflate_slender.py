"""What is slender in the picture is not deep."""

from __future__ import annotations

import numpy as np
import pytest

from stages.models.sketch_net import SIDE
from stages.multiview.inflate.slender import DEEPEST, bounded

STEPS = (np.arange(SIDE) + 0.5) * 2.0 / SIDE - 1.0
ACROSS, UP = np.meshgrid(STEPS, -STEPS)


def bar(wide: float, high: float) -> np.ndarray:
    """A mask of so many half widths each way, in the middle."""
    return np.asarray((np.abs(ACROSS) < wide / 2.0) & (np.abs(UP) < high / 2.0))


def depth(front: np.ndarray, back: np.ndarray, known: np.ndarray) -> float:
    return float(front[known].max() - back[known].min())


def test_a_plank_becomes_a_pencil() -> None:
    """Told 0.8 thick, and bent by as much."""
    known, bend = bar(0.1, 1.7), 0.8 * (UP**2 - 0.3)
    front, back = bounded(bend + 0.4, bend - 0.4, known, 0.0)
    assert depth(front, back, known) < 1.3 * DEEPEST * 0.1
    assert (front[known] > back[known]).all()


def test_what_is_no_deeper_than_wide_is_left_as_it_is() -> None:
    known = bar(0.3, 1.7)
    relief = 0.02 * np.cos(8.0 * UP)
    front, back = bounded(relief + 0.15, relief - 0.15, known, 0.0)
    assert np.allclose(front, relief + 0.15)
    assert np.allclose(back, relief - 0.15)


@pytest.mark.parametrize(("wide", "high"), [(1.0, 1.7), (1.7, 0.3)], ids=["broad", "lying book"])
def test_others_may_be_as_deep_as_they_are_told(wide: float, high: float) -> None:
    known = bar(wide, high)
    front, back = np.full((SIDE, SIDE), 0.6), np.full((SIDE, SIDE), -0.6)
    assert bounded(front, back, known, 0.0) == (front, back)


@pytest.mark.parametrize("leaning", [0.0, 30.0])
def test_only_what_is_known_to_lean_leans(leaning: float) -> None:
    """The depths say 30 degrees."""
    known, slope = bar(0.1, 1.7), np.tan(np.deg2rad(30.0))
    front, back = bounded(slope * UP + 0.05, slope * UP - 0.05, known, np.deg2rad(leaning))
    kept = np.polyfit(UP[known], ((front + back) / 2.0)[known], 1)[0]
    assert kept == pytest.approx(slope if leaning else np.tan(np.deg2rad(5.0)), abs=0.01)
