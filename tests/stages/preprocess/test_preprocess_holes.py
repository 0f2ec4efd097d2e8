"""Enclosed pieces of the backdrop's colour: white parts of the object are kept, holes stay open."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from devtools import drawings
from devtools.drawings import Draw, drawn
from stages.preprocess.segment import segment

WHITE_PARTS: list[tuple[Draw, list[tuple[int, int]]]] = [
    (drawings.face, [(200, 240), (120, 200)]),
    (drawings.panda, [(200, 150), (200, 280), (163, 108)]),
    (drawings.loose_snowman, [(200, 120), (150, 270), (250, 270)]),
    (drawings.shirt, [(200, 200), (80, 120)]),
    (drawings.penguin, [(200, 250), (150, 100)]),
    (drawings.white_mug, [(160, 200), (331, 200)]),
]
HOLES: list[tuple[Draw, list[tuple[int, int]]]] = [
    (drawings.hoop, [(200, 200)]),
    (drawings.doughnut, [(200, 200)]),
    (drawings.doughnut_with_eyes, [(200, 200)]),
    (drawings.iced_doughnut, [(200, 200)]),
    (drawings.mug, [(290, 200)]),
    (drawings.mug_with_eyes, [(290, 200)]),
    (drawings.white_mug, [(290, 200)]),
    (drawings.glasses, [(105, 200), (295, 200)]),
    (drawings.square_glasses, [(105, 200), (295, 200)]),
    (drawings.fence, [(84, 200), (264, 200)]),
    (drawings.letter_b, [(195, 140), (195, 260)]),
]


def mask_of(picture: Image.Image, holes: str = "auto") -> np.ndarray:
    found = segment(np.asarray(picture.convert("RGB")), holes)  # type: ignore[arg-type]
    assert found.plain
    return found.mask


def as_jpeg(picture: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return Image.open(stream)


@pytest.mark.parametrize(("draw", "inside"), WHITE_PARTS)
def test_white_parts_of_a_drawing_are_kept(draw: Draw, inside: list[tuple[int, int]]) -> None:
    mask = mask_of(drawn(draw))
    assert all(mask[y, x] for x, y in inside)
    assert not mask[2, 2]


@pytest.mark.parametrize(("draw", "through"), HOLES)
def test_what_one_sees_through_stays_open(draw: Draw, through: list[tuple[int, int]]) -> None:
    mask = mask_of(drawn(draw))
    assert not any(mask[y, x] for x, y in through)


@pytest.mark.parametrize(("draw", "at"), [(drawings.panda, True), (drawings.doughnut, False)])
def test_a_jpegs_noise_changes_nothing(draw: Draw, at: bool) -> None:
    assert mask_of(as_jpeg(drawn(draw)))[205, 200] == at


@pytest.mark.parametrize("scale", [0.4, 0.7, 1.6])
def test_the_evidence_does_not_depend_on_the_size(scale: float) -> None:
    side = round(drawings.SIDE * scale)
    for draw, (x, y), kept in [
        (drawings.panda, (200, 280), True),
        (drawings.mug_with_eyes, (290, 200), False),
    ]:
        picture = drawn(draw).resize((side, side), Image.Resampling.LANCZOS)
        found = segment(np.asarray(picture))
        row, column = (round(v * scale * len(found.mask) / side) for v in (y, x))
        if found.region.width == side:
            assert found.mask[row, column] == kept


@pytest.mark.parametrize("draw", [drawings.face, drawings.doughnut])
def test_the_user_may_decide(draw: Draw) -> None:
    assert not mask_of(drawn(draw), "keep")[240, 200]
    assert mask_of(drawn(draw), "fill")[240, 200]


def test_a_large_hole_without_evidence_is_doubtful() -> None:
    assert segment(np.asarray(drawn(drawings.glasses))).doubtful > 0.6
    assert segment(np.asarray(drawn(drawings.face))).doubtful == 0.0
    assert segment(np.asarray(drawn(drawings.mug))).doubtful == 0.0
