"""What of a front goes on round to the back, and what ends on the front."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from devtools.fakes.sketched import grey_plate
from stages.models.sketch_net import SIDE
from stages.models.sketch_net.predict import Sketch
from stages.multiview.inflate.around import Around, look_around
from stages.multiview.inflate.learned import see_sheets
from stages.multiview.inflate.spread import spread

SIZE = 320
SKIN, EYE, SCARF, ROOF, INK = (
    (0.9, 0.7, 0.5),
    (0.1, 0.1, 0.4),
    (0.2, 0.3, 0.8),
    (0.8, 0.1, 0.1),
    0.05,
)


def ball(size: int = SIZE, radius: float = 0.4) -> np.ndarray:
    """(size, size) bool: a disc in the middle."""
    at = (np.arange(size) + 0.5) / size - 0.5
    return np.asarray(at[:, None] ** 2 + at**2 < radius**2)


def painted(size: int = SIZE) -> np.ndarray:
    """A ball's paint: its upper third is a roof, a scarf goes across it, and it has two eyes."""
    rows, columns = (np.indices((size, size)) + 0.5) / size
    image = np.full((size, size, 3), SKIN, np.float32)
    image[rows < 0.35] = ROOF
    image[(rows > 0.65) & (rows < 0.72)] = SCARF
    for column in (0.4, 0.6):
        image[(rows - 0.5) ** 2 + (columns - column) ** 2 < 0.05**2] = EYE
    return cv2.GaussianBlur(image, (0, 0), 0.8)


def at(image: np.ndarray, column: float, row: float) -> np.ndarray:
    """The value at a place given in shares of the picture's side."""
    size = len(image)
    return np.asarray(image[int(row * size), int(column * size)])


def seen(image: np.ndarray, inside: np.ndarray) -> Around:
    return look_around(image, image, inside)


def test_eyes_end_on_the_front_and_roof_and_scarf_go_on() -> None:
    image = painted()
    behind = seen(image, ball()).behind()
    for place, colour in (((0.5, 0.25), ROOF), ((0.5, 0.685), SCARF), ((0.5, 0.5), SKIN)):
        assert np.abs(at(behind, *place) - colour).max() < 0.05
    for column in (0.4, 0.6):
        assert np.abs(at(image, column, 0.5) - EYE).max() < 0.05
        assert np.abs(at(behind, column, 0.5) - SKIN).max() < 0.1
    rows, columns = (np.indices((SIZE, SIZE)) + 0.5) / SIZE
    face = (np.abs(rows - 0.5) < 0.1) & (np.abs(columns - 0.5) < 0.2)
    assert np.abs(behind[face] - SKIN).max() < 0.1, "not even a shadow of their borders"


def test_regions_keep_their_borders_behind() -> None:
    """As sharp as on the front, but for a few pixels."""
    column = seen(painted(), ball()).behind()[:, SIZE // 2, 2]
    mixed = (column > SKIN[2] + 0.08) & (column < SCARF[2] - 0.08)
    assert 0 < mixed.sum() < 0.05 * SIZE


def test_what_ends_is_told_with_its_border_and_without_lines_between_regions() -> None:
    ends = seen(painted(256), ball(256)).ends()
    assert at(ends, 0.4, 0.5)
    assert at(ends, 0.6, 0.5)
    assert not at(ends, 0.5, 0.25)
    assert not at(ends, 0.5, 0.685)
    assert not at(ends, 0.3, 0.6)
    rows, columns = (np.indices((256, 256)) + 0.5) / 256
    eye = (rows - 0.5) ** 2 + (columns - 0.4) ** 2 < 0.05**2
    assert ends[eye].all()
    assert ends.sum() < 6 * eye.sum(), "two eyes, each with a border as broad as half of it"


def test_what_is_large_and_near_the_outline_is_not_well_within() -> None:
    """A face that is all eyes: what is left beside them tells nothing of the back."""
    rows, columns = (np.indices((256, 256)) + 0.5) / 256
    near, far = (np.full((256, 256, 3), SKIN, np.float32) for _ in range(2))
    near[(rows - 0.5) ** 2 + (columns - 0.5) ** 2 < 0.34**2] = EYE
    far[(rows - 0.5) ** 2 + (columns - 0.5) ** 2 < 0.15**2] = EYE
    assert at(seen(near, ball(256)).ends(), 0.5, 0.5)
    assert not seen(near, ball(256)).ends(well_within=True).any()
    assert at(seen(far, ball(256)).ends(well_within=True), 0.5, 0.5)


@pytest.mark.parametrize("size", [192, 320, 512])
def test_a_drawings_line_does_not_part_its_regions_from_the_outline(size: int) -> None:
    inside = ball(size)
    image = painted(size)
    image[inside & ~ball(size, 0.385)] = INK
    behind = seen(image, inside).behind()
    assert np.abs(at(behind, 0.5, 0.25) - ROOF).max() < 0.1
    assert np.abs(at(behind, 0.4, 0.5) - SKIN).max() < 0.15
    assert np.abs(at(behind, 0.5, 0.12) - ROOF).max() < 0.2, "nor has the back the line"


def test_paint_that_fades_is_one_region() -> None:
    fading = np.linspace(0.2, 0.9, SIZE, dtype=np.float32)[:, None, None]
    image = np.broadcast_to(fading, (SIZE, SIZE, 3)).copy()
    around = seen(image, ball())
    assert around.goes_on[ball(radius=0.38)].mean() > 0.95
    assert not around.ends().any()


def test_a_thing_without_any_region_keeps_its_colours() -> None:
    """Noise has no region at all."""
    image = np.random.default_rng(5).random((SIZE, SIZE, 3)).astype(np.float32)
    around = seen(image, ball())
    assert not around.goes_on.any()
    assert np.array_equal(around.behind(), image)


def test_what_is_spread_is_what_counts() -> None:
    image = np.zeros((64, 64, 3), np.float32)
    weight = np.zeros((64, 64), np.float32)
    image[4:12, 4:12], weight[4:12, 4:12] = (1.0, 0.5, 0.0), 1.0
    image[4:12, 52:60], weight[4:12, 52:60] = (0.0, 0.5, 1.0), 1.0
    image[40, 30] = 9.0  # does not count
    made = spread(image, weight)
    assert made.min() >= 0.0
    assert made.max() <= 1.0 + 1e-5
    assert made[8, 8, 0] > 0.95
    assert made[8, 2, 0] > 0.8
    assert made[8, 62, 2] > 0.8
    assert np.abs(made[..., 1] - 0.5).max() < 1e-4


def told_with_a_copy(mirror: tuple[float, float, float]) -> Sketch:
    """A network that sees a thick disc, and presses its eyes into its back."""
    image = painted(SIDE)
    rows, columns = (np.indices((SIDE, SIDE)) + 0.5) / SIDE
    dents = sum(
        np.exp(-((rows - 0.5) ** 2 + (columns - column) ** 2) / (2 * 0.03**2))
        for column in (0.4, 0.6)
    )
    back = 0.2 * dents - 0.8
    down, right = np.gradient(back, 2.0 / SIDE)
    normal = np.stack([right, -down, -np.ones_like(back)], axis=2)
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    return replace(
        grey_plate(),
        thickness=(-back).astype(np.float32),
        albedo=image,
        behind_normal=normal.astype(np.float32),
        behind_albedo=image,
        elevation_error=9.0,
        mirror=np.array(mirror, np.float32),
    )


def depth_of_the_dents(told: Sketch) -> float:
    """How much thinner it is behind its eyes than between them."""
    made = see_sheets(lambda picture: told, told.albedo, ball(SIDE).astype(np.float32))
    between = at(made.thickness, 0.5, 0.5)
    return float(max(between - at(made.thickness, column, 0.5) for column in (0.4, 0.6)))


def test_eyes_are_not_pressed_into_the_back_of_what_is_seen_from_its_front() -> None:
    front, side = told_with_a_copy((1.0, 0.0, 0.0)), told_with_a_copy((0.0, 0.0, 1.0))
    assert depth_of_the_dents(side) > 0.12, "of what is seen from its side the back is as told"
    assert depth_of_the_dents(front) < 0.04


def test_without_paint_the_back_is_as_told() -> None:
    told = told_with_a_copy((1.0, 0.0, 0.0))
    plain = np.full_like(told.albedo, 0.5)
    assert depth_of_the_dents(replace(told, albedo=plain)) > 0.12
