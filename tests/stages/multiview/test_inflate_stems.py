"""Legs and poles stand straight."""

from __future__ import annotations

import numpy as np
import pytest

from stages.multiview.inflate.stems import straightened

SIZE = 256
TOP, FOOT = 90, 230


def scene(breadth: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """A lamp: (256, 256) bool of its shade with its pole, and of the pole alone."""
    rows, columns = np.indices((SIZE, SIZE))
    shade = (rows > 20) & (rows <= TOP) & (abs(columns - 128) < 60)
    pole = (rows > TOP) & (rows < FOOT) & (abs(columns - 128) <= breadth // 2)
    return shade | pole, pole


def wavering(known: np.ndarray, pole: np.ndarray, lean: float = 0.0) -> np.ndarray:
    """Depths: a plane, and a pole that is an S of .1 about a line of this slope."""
    up = (TOP - np.arange(SIZE))[:, None] * 2.0 / SIZE
    wave = 0.1 * np.sin(np.linspace(0.0, 4.0 * np.pi, FOOT - TOP))
    depth = np.zeros((SIZE, SIZE))
    depth[TOP:FOOT] += wave[:, None]
    return np.where(pole, depth + np.tan(lean) * up, 0.0) * known


def spread_about_a_line(depth: np.ndarray, pole: np.ndarray) -> float:
    rows = np.arange(TOP + 12, FOOT)
    means = np.array([depth[row][pole[row]].mean() for row in rows])
    return float(np.abs(means - np.polyval(np.polyfit(rows, means, 1), rows)).max())


def slope(depth: np.ndarray, pole: np.ndarray) -> float:
    """Degrees by which it comes nearer upwards."""
    rows = np.arange(TOP + 12, FOOT)
    means = [depth[row][pole[row]].mean() for row in rows]
    return float(np.degrees(np.arctan(np.polyfit(-rows * 2.0 / SIZE, means, 1)[0])))


def test_a_pole_that_wavers_becomes_straight_and_keeps_its_depth() -> None:
    known, pole = scene()
    front = wavering(known, pole) + 0.3
    made, back = straightened(front, front - 0.1, known, None)
    assert spread_about_a_line(front, pole) > 0.08
    assert spread_about_a_line(made, pole) < 0.01
    assert spread_about_a_line(back, pole) < 0.01
    assert abs(made[pole].mean() - 0.3) < 0.03
    assert np.array_equal(made[~pole], front[~pole])


@pytest.mark.parametrize("told", [-10.0, 20.0, 45.0])
def test_it_leans_no_more_than_a_little_from_the_upright(told: float) -> None:
    """Of a camera 20 degrees above the ground: an upright comes nearer upwards by as much."""
    known, pole = scene()
    front = wavering(known, pole, np.deg2rad(told))
    made, _ = straightened(front, front - 0.1, known, np.deg2rad(20.0))
    assert 3.0 < slope(made, pole) < 37.0


def test_it_goes_on_where_it_grows_out_of_something() -> None:
    known, pole = scene()
    front = wavering(known, pole) + np.where(pole, 0.03, 0.0)
    made, _ = straightened(front, front - 0.1, known, None)
    assert abs(made[TOP + 2, 128] - front[TOP + 2, 128]) < 0.25 * abs(
        made[TOP + 20, 128] - front[TOP + 20, 128]
    )


def test_what_lies_or_is_broad_or_short_stays() -> None:
    known, pole = scene()
    front = wavering(known, pole)
    lying = straightened(front.T.copy(), front.T - 0.1, known.T.copy(), None)[0]
    assert np.array_equal(lying, front.T)
    broad, body = scene(breadth=40)
    front = wavering(broad, body)
    assert np.array_equal(straightened(front, front - 0.1, broad, None)[0], front)
    short = known & (np.arange(SIZE)[:, None] < TOP + 12)
    front = wavering(short, pole & short)
    assert np.array_equal(straightened(front, front - 0.1, short, None)[0], front)


def test_the_back_stays_behind_the_front() -> None:
    known, pole = scene()
    front = wavering(known, pole)
    made, back = straightened(front, front[::-1] * 0.5 - 0.02, known, None)
    assert (made - back)[known].min() >= 0.0
