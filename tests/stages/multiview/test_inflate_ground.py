"""Where the body of what stands ends below."""

from __future__ import annotations

import numpy as np
import pytest

from stages.multiview.inflate.ground import Standing, above_ground

SIZE, FOCAL = 256, 4.0
FORWARDS = np.broadcast_to([0.0, 0.0, 1.0], (SIZE, SIZE, 3))
UP = 1.0 - (np.arange(SIZE)[:, None] + 0.5) * 2.0 / SIZE


def heights_of(depth: np.ndarray, elevation: float) -> np.ndarray:
    """Above the middle, of what lies at these depths in a picture from `elevation` radians."""
    near = 1.0 - depth / FOCAL
    return near * UP * np.cos(elevation) + depth * np.sin(elevation)


def block(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """Pixels in rows from .. to, columns from .. to."""
    known = np.zeros((SIZE, SIZE), bool)
    for top, bottom, left, right in boxes:
        known[top:bottom, left:right] = True
    return known


def cut(
    known: np.ndarray,
    elevation: float,
    thickness: float = 1.0,
    normal: np.ndarray = FORWARDS,
    undersides: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Heights of front and back of a wall that faces the camera, its back cut."""
    front = np.full((SIZE, SIZE), 0.5)
    back = above_ground(
        front - thickness, Standing(front, normal, known, FOCAL, elevation), undersides
    )
    assert (back >= front - thickness).all()
    return heights_of(front, elevation), heights_of(back, elevation)


@pytest.mark.parametrize("degrees", [0.0, 5.0, 20.0])
def test_what_stands_has_a_flat_base(degrees: float) -> None:
    """Uncut, its back hangs below its front by a fourth of the thickness and more."""
    known = block((60, 200, 50, 200))
    front, back = cut(known, np.deg2rad(degrees))
    lowest = front[known].min()
    hangs = heights_of(np.full((SIZE, SIZE), -0.5), np.deg2rad(degrees))
    assert hangs[known].min() < lowest - 0.1
    assert back[known].min() > lowest - 0.02
    assert np.ptp(back[196:199, 60:190]) < 1e-3


def test_what_stands_on_little_is_round_below() -> None:
    """A third of its breadth stands; there it reaches lower by what the camera does not see."""
    known = block((60, 200, 50, 200), (200, 212, 100, 150))
    front, back = cut(
        known, np.deg2rad(20.0), normal=np.broadcast_to([0, -0.8, 0.6], (SIZE, SIZE, 3))
    )
    assert -0.1 < back[known].min() - front[known].min() < -0.03


def test_an_underside_between_legs_is_level() -> None:
    """A bed, the upper edge of whose legs is at row 150, seen from five degrees above."""
    known = block((90, 150, 40, 210), (150, 190, 40, 60), (150, 190, 190, 210))
    front, back = cut(known, np.deg2rad(5.0))
    edge = front[149, 125]
    assert heights_of(np.full((SIZE, SIZE), -0.5), np.deg2rad(5.0))[149, 125] < edge - 0.1
    assert back[149, 80:170].min() > edge - 0.06
    assert back[189, 50] < edge - 0.2, "the legs go on to the ground"


def test_where_the_slant_of_the_ground_is_in_doubt_only_that_is_cut() -> None:
    known = block((90, 150, 40, 210), (150, 190, 40, 60), (150, 190, 190, 210))
    front, back = cut(known, np.deg2rad(5.0), undersides=False)
    assert back[149, 125] < front[149, 125] - 0.1
    assert back[known].min() > front[known].min() - 0.05


def test_a_round_belly_is_not_cut_flat() -> None:
    known = block((90, 150, 40, 210), (150, 190, 40, 60), (150, 190, 190, 210))
    belly = np.broadcast_to([0.0, -0.8, 0.6], (SIZE, SIZE, 3))
    front, back = cut(known, np.deg2rad(5.0), normal=belly)
    assert back[149, 125] < front[149, 125] - 0.1
