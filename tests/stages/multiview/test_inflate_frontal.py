"""What turns nothing but a flat front to the camera is not deep."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from devtools.fakes.sketched import grey_plate
from stages.models.sketch_net import SIDE
from stages.multiview.inflate.around import look_around
from stages.multiview.inflate.frontal import FRAMED, RECTANGULAR, flattened

STEPS = (np.arange(SIDE) + 0.5) * 2.0 / SIDE - 1.0
ACROSS, UP = np.meshgrid(STEPS, -STEPS)
FRONT = {"certainty": np.full((SIDE, SIDE), 0.4, np.float32)}
"""What the network tells of a screen or a door seen straight from the front."""
TURN = np.clip(ACROSS / 0.41, -1.0, 1.0)
ROUND = np.stack([TURN, 0.0 * TURN, np.sqrt(1.0 - TURN**2)], axis=2)
"""A column's normals."""


def panel(wide: float, high: float) -> np.ndarray:
    """A mask of so many half widths each way, in the middle."""
    return np.asarray((np.abs(ACROSS) < wide / 2.0) & (np.abs(UP) < high / 2.0))


def bound(
    known: np.ndarray, screen: np.ndarray | None = None, slope: float = 0.0, **told: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Front and back of what is told to be one half width deep, leaning by `slope`; with a blue
    `screen` in its grey."""
    sketch = replace(grey_plate(), **{**FRONT, **told})
    picture = np.full((SIDE, SIDE, 3), 0.6, np.float32)
    if screen is not None:
        picture[screen] = (0.1, 0.3, 0.9)
    around = look_around(picture, picture, known)
    return flattened(slope * UP + 0.5, slope * UP - 0.5, known, sketch, around)


def depth(sheets: tuple[np.ndarray, np.ndarray], known: np.ndarray) -> float:
    front, back = sheets
    return float(np.median((front - back)[known]))


def test_a_door_is_no_block() -> None:
    known = panel(0.8, 1.6)
    assert depth(bound(known), known) == pytest.approx(RECTANGULAR * 0.8, rel=0.05)


def test_a_screen_is_flatter_and_need_be_no_rectangle() -> None:
    known = panel(1.2, 1.0) | panel(0.2, 1.6)  # antenna and foot
    screen = panel(0.9, 0.7)
    assert depth(bound(known), known) == pytest.approx(1.0)
    assert depth(bound(known, screen), known) == pytest.approx(FRAMED * 1.2, rel=0.05)


@pytest.mark.parametrize(
    ("error", "expected"), [(0.03, 0.0), (9.0, 5.0)], ids=["level", "nobody knows"]
)
def test_it_stands_upright(error: float, expected: float) -> None:
    """A camera that is known to look at it from its own height sees it upright; else the bundle's
    looks down on it by 5 degrees, and it comes nearer upwards."""
    known = panel(0.8, 1.6)
    front, back = bound(known, slope=-0.3, elevation_error=error)
    slope = np.polyfit(UP[known], ((front + back) / 2.0)[known], 1)[0]
    assert slope == pytest.approx(np.tan(np.deg2rad(expected)), abs=0.01)


def test_its_back_has_no_copy_of_its_front() -> None:
    known = panel(0.8, 1.6)
    dents = 0.2 * np.cos(20.0 * ACROSS)
    around = look_around(*[np.full((SIDE, SIDE, 3), 0.6, np.float32)] * 2, known)
    sketch = replace(grey_plate(), **FRONT, elevation_error=0.03)
    front, back = flattened(0.5 + dents, dents - 0.5, known, sketch, around)
    assert np.ptp(back[known]) < 1e-6
    assert np.ptp(front[known]) > 0.01


@pytest.mark.parametrize(
    "told",
    [
        {"certainty": np.full((SIDE, SIDE), 0.85, np.float32)},
        {"elevation": float(np.radians(25.0))},
        {"mirror": np.array([0.7, 0.0, -0.7], np.float32)},
        {"normal": ROUND},
    ],
    ids=["the network is sure", "from above", "turned", "rounded"],
)
def test_what_shows_its_depth_keeps_it(told: dict[str, Any]) -> None:
    known = panel(0.8, 1.6)
    assert depth(bound(known, panel(0.6, 1.2), **told), known) == pytest.approx(1.0)


def test_what_is_thin_already_keeps_its_depth() -> None:
    known = panel(0.8, 1.6)
    around = look_around(*[np.full((SIDE, SIDE, 3), 0.6, np.float32)] * 2, known)
    sheets = np.full((SIDE, SIDE), 0.05), np.full((SIDE, SIDE), -0.05)
    made = flattened(*sheets, known, replace(grey_plate(), **FRONT), around)
    assert depth(made, known) == pytest.approx(0.1)
