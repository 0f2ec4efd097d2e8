"""Depths beside an outline: round where a surface turns away, even along it."""

from __future__ import annotations

import numpy as np
import pytest

from stages.multiview.inflate.fringe import BAND, EDGE, Fringe

RADIUS, NODE = 50.0, 0.01
"""Nodes from the middle of a disc to its outline, and how broad one is in scene units."""
ANGLES = np.linspace(0.0, 2.0 * np.pi, 400, endpoint=False)
OUTLINE = 60.0 + RADIUS * np.stack([np.sin(ANGLES), np.cos(ANGLES)], axis=1)


def disc() -> tuple[np.ndarray, np.ndarray]:
    """(M, 2) nodes within the outline, and (M,) how far they are from it."""
    at = np.stack(np.indices((121, 121)), axis=-1).reshape(-1, 2).astype(np.float64)
    away = RADIUS - np.linalg.norm(at - 60.0, axis=1)
    return at[away > 0.2], away[away > 0.2]


def ball(away: np.ndarray) -> np.ndarray:
    """Depths of a ball, 0 at the outline."""
    return np.asarray(-NODE * np.sqrt(RADIUS**2 - (RADIUS - away) ** 2))


def test_a_ball_is_round_to_its_outline() -> None:
    """Told is a shelf from two nodes inwards, and a wall of 14 nodes below it."""
    at, away = disc()
    told = ball(np.maximum(away, EDGE))
    steep = NODE * (RADIUS - away) / -ball(away)
    made = Fringe(at, OUTLINE).rounded(told, np.zeros(len(OUTLINE)), steep)
    assert np.abs(told - ball(away)).max() > 9.0 * NODE
    assert np.abs(made - ball(away)).max() < 2.0 * NODE
    assert (made[away > EDGE + 0.1] == told[away > EDGE + 0.1]).all()


def test_what_is_flat_keeps_its_edge() -> None:
    at, away = disc()
    told = np.full(len(at), -0.3)
    made = Fringe(at, OUTLINE).rounded(told, np.zeros(len(OUTLINE)), np.zeros(len(at)))
    assert (made == told).all()


def test_ripples_along_the_outline_are_gone_and_what_is_further_in_stays() -> None:
    at, away = disc()
    slope, ripples = 0.002 * at[:, 0], 0.01 * (-1.0) ** at.sum(axis=1)
    made = Fringe(at, OUTLINE).even(slope + ripples) - slope
    assert np.abs(made[away < EDGE]).mean() < 0.003
    assert np.allclose(made[away > BAND[1] + 0.1], ripples[away > BAND[1] + 0.1])


def test_an_arm_before_a_body_stays_before_it() -> None:
    at, away = disc()
    told = np.where(at[:, 0] < 60.0, 0.0, 0.3)
    assert Fringe(at, OUTLINE).even(told) == pytest.approx(told, abs=1e-6)


def test_a_single_node_is_no_trouble() -> None:
    at, depth = np.array([[60.0, 60.0]]), np.array([0.5])
    around = at + np.array([[0.5, 0.0], [0.0, 0.5], [-0.5, 0.0], [0.0, -0.5]])
    fringe = Fringe(at, around)
    assert fringe.even(fringe.rounded(depth, np.full(4, 0.6), np.ones(1))) == pytest.approx(depth)
