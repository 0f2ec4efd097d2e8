"""Bodies as deep as wide: a disc's is a ball, a strip's a cylinder, whatever lies around them."""

from __future__ import annotations

import numpy as np

from stages.geometry.inscribed_balls import inscribed_balls

SIZE = 128
HALF_WIDTHS = 2.0 / SIZE


def test_disc_and_strip_in_one_picture() -> None:
    y, x = np.mgrid[:SIZE, :SIZE].astype(float)
    away = np.hypot(x - 40.0, y - 40.0)
    disc, strip = away < 30.0, np.abs(y - 100.0) < 10.0
    thickness = inscribed_balls(disc | strip)
    ball = 2.0 * np.sqrt(np.maximum(30.0**2 - away**2, 0.0)) * HALF_WIDTHS
    assert np.abs(thickness - ball)[away < 28.0].max() < 4.0 * HALF_WIDTHS
    cylinder = 2.0 * np.sqrt(np.maximum(10.0**2 - (y - 100.0) ** 2, 0.0)) * HALF_WIDTHS
    inner = strip & (x > 12.0) & (x < SIZE - 12.0) & (np.abs(y - 100.0) < 8.0)
    assert np.abs(thickness - cylinder)[inner].max() < 4.0 * HALF_WIDTHS
    assert not thickness[~(disc | strip)].any()


def test_what_the_border_cuts_off_ends_there() -> None:
    thickness = inscribed_balls(np.ones((SIZE, SIZE), bool))
    assert thickness.max() < 2.0 + 4.0 * HALF_WIDTHS
    assert thickness[0].max() < thickness[SIZE // 2].max() / 2.0


def test_nothing_has_no_thickness() -> None:
    assert not inscribed_balls(np.zeros((SIZE, SIZE), bool)).any()
