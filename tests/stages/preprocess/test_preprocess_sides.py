"""Several pictures of one object: to one scale, told apart by what they show, and doubted."""

from __future__ import annotations

import functools
from itertools import permutations
from typing import Any

import numpy as np
import pytest
from PIL import Image

from devtools.pictures import compose, cutout, disc, file_of, grid, on_white, shaded
from devtools.sided import pictures_of, toy
from stages.contract import BadInput, Context
from stages.preprocess.stage import Preprocess, PreprocessParams

BACK, LEFT, RIGHT = range(3)
ORDER = ("back", "left", "right")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.preprocess.stage.locate", lambda name: None)


@functools.cache
def toy_pictures() -> dict[str, bytes]:
    return {side: file_of(picture) for side, picture in pictures_of(toy(), 256).items()}


def run(warnings: list[str] | None = None, params: Any = None, **files: bytes) -> dict[str, Any]:
    """files: input name without `input_` -> picture. Outputs, held to their specs."""
    stage = Preprocess(PreprocessParams(**(params or {})))
    told: list[str] = [] if warnings is None else warnings
    context = Context(warn=lambda text, degraded=False: told.append(text))
    outputs = stage.run({f"input_{name}": data for name, data in files.items()}, context)
    for spec in stage.outputs:
        if spec.name in outputs:
            spec.check(outputs[spec.name])
    return dict(outputs)


def box(alpha: np.ndarray) -> tuple[int, int, int, int]:
    """Top, bottom, left, right."""
    rows, columns = (np.flatnonzero((alpha > 127).any(axis=axis)) for axis in (1, 0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def height(alpha: np.ndarray) -> int:
    top, bottom, _, _ = box(alpha)
    return bottom - top


def bar(width: float, high: float, side: int = 256, color: Any = (200, 60, 40)) -> bytes:
    """A rectangle, given as shares of the picture's side, with alpha."""
    x, y = grid(side)
    inside = (np.abs(x) <= width) & (np.abs(y) <= high)
    pixels = np.zeros((side, side, 4), np.uint8)
    pixels[inside] = (*color, 255)
    return file_of(Image.fromarray(pixels))


def test_one_picture_alone_writes_no_given_views() -> None:
    alone = run(image=bar(0.3, 0.5))
    assert set(alone) == {"image", "alpha"}


def test_sides_are_as_high_as_the_front_and_in_the_middle_whatever_their_pictures_scale() -> None:
    made = run(image=bar(0.3, 0.5), back=bar(0.15, 0.25, 320), left=bar(0.18, 0.9, 128))
    front, given = made["alpha"][..., 0], made["given_views"]
    assert given.shape == (3, *front.shape, 4)
    for layer in (BACK, LEFT):
        top, bottom, left, right = box(given[layer, ..., 3])
        assert abs(height(given[layer, ..., 3]) - height(front)) <= 2
        assert abs(top + bottom - len(front)) <= 2
        assert abs(left + right - len(front)) <= 2
    back = box(given[BACK, ..., 3])
    assert back[3] - back[2] == pytest.approx(0.6 * height(front), rel=0.03)


def test_a_side_that_was_not_given_is_white_and_covered_nowhere() -> None:
    given = run(image=bar(0.3, 0.5), left=bar(0.2, 0.5))["given_views"]
    for layer in (BACK, RIGHT):
        assert not given[layer, ..., 3].any()
        assert (given[layer, ..., :3] == 255).all()
    assert given[LEFT, ..., 3].any()


def test_the_widest_side_decides_the_scale_of_all() -> None:
    """A car's side is three times as long as its front is wide."""
    made = run(image=bar(0.3, 0.3), left=bar(0.9, 0.3))
    front, left = made["alpha"][..., 0], made["given_views"][LEFT, ..., 3]
    size = len(front)
    assert box(left)[3] - box(left)[2] == pytest.approx(0.85 * size, rel=0.02)
    assert height(front) == pytest.approx(0.85 * size / 3.0, rel=0.03)


def test_the_fronts_pixels_stay_what_they_are_without_sides() -> None:
    """Another picture that is no wider changes neither the front's scale nor its colours."""
    alone, more = run(image=bar(0.3, 0.5)), run(image=bar(0.3, 0.5), back=bar(0.3, 0.5))
    assert np.array_equal(alone["image"], more["image"])
    assert np.array_equal(alone["alpha"], more["alpha"])


def test_the_references_framing_is_left_alone_and_the_sides_follow_it() -> None:
    params = {"framing": "reference", "background": "alpha"}
    alone = run(params=params, image=bar(0.2, 0.4))
    more = run(params=params, image=bar(0.2, 0.4), back=bar(0.5, 1.0))
    assert np.array_equal(alone["image"], more["image"])
    front, back = alone["alpha"][..., 0], more["given_views"][BACK, ..., 3]
    assert abs(height(back) - height(front)) <= 2
    assert abs(box(back)[0] - box(front)[0]) <= 2


def test_a_bad_picture_of_a_side_is_named() -> None:
    with pytest.raises(
        BadInput, match=r"^--left .the picture of the left, not of the front.: the input file is no"
    ):
        run(image=bar(0.3, 0.5), left=b"no picture")


def test_a_bad_picture_whose_side_is_to_be_found_out_is_named_by_its_number() -> None:
    with pytest.raises(BadInput, match=r"^picture 3, not the front: the input file is no"):
        run(params={"sides": "auto"}, image=bar(0.3, 0.5), back=bar(0.3, 0.5), left=b"no picture")


def test_what_is_doubtful_about_a_side_names_it() -> None:
    told: list[str] = []
    rough = np.random.default_rng(1).uniform(0, 120, (160, 160, 3))
    rough_back = file_of(compose(disc(160), shaded(160), rough))
    run(told, {"background": "grabcut"}, image=bar(0.3, 0.5), back=rough_back)
    assert any(text.startswith("the picture of the back: ") for text in told)


@pytest.mark.parametrize("shown", list(permutations(ORDER)))
def test_auto_finds_out_which_picture_shows_what(shown: tuple[str, ...]) -> None:
    told: list[str] = []
    pictures = toy_pictures()
    named = {given: pictures[side] for given, side in zip(ORDER, shown, strict=True)}
    found = run(told, {"sides": "auto"}, image=pictures["front"], **named)["given_views"]
    true = run(image=pictures["front"], **{side: pictures[side] for side in ORDER})["given_views"]
    assert np.array_equal(found, true)
    (text,) = told
    for number, side in enumerate(shown, start=2):
        assert f"picture {number} is the {side} (" in text
    assert "--back" in text


@pytest.mark.parametrize("side", ["back", "left"])
def test_auto_with_one_more_picture(side: str) -> None:
    told: list[str] = []
    pictures = toy_pictures()
    made = run(told, {"sides": "auto"}, image=pictures["front"], back=pictures[side])
    assert f"picture 2 is the {side} (" in told[0]
    assert made["given_views"][ORDER.index(side), ..., 3].any()


def test_auto_says_that_it_guesses_where_all_sides_look_alike() -> None:
    told: list[str] = []
    ball = file_of(cutout(disc(256)))
    run(told, {"sides": "auto"}, image=ball, back=ball, left=ball, right=ball)
    assert told[0].count("a guess") == 3
    assert "2 is the back" in told[0]
    assert "3 is the left" in told[0]
    assert "4 is the right" in told[0]


def test_the_four_pictures_of_one_object_are_not_doubted() -> None:
    told: list[str] = []
    pictures = toy_pictures()
    run(told, image=pictures["front"], **{side: pictures[side] for side in ORDER})
    assert not told


def test_a_back_of_another_shape_and_of_another_colour_is_doubted() -> None:
    told: list[str] = []
    run(told, image=bar(0.2, 0.6), back=bar(0.6, 0.6, color=(30, 60, 200)))
    (text,) = told
    assert text.startswith("the pictures of the front and the back do not seem to show one object")
    assert "hardly mirror images of each other (overlap " in text
    assert "hardly a colour in common (palettes overlap by 0%" in text
    assert "at the same heights do not match (difference 40 in CIELAB" in text


def test_left_and_right_in_each_others_place_are_doubted() -> None:
    told: list[str] = []
    p = toy_pictures()
    run(told, image=p["front"], back=p["back"], left=p["right"], right=p["left"])
    assert any("left and right look interchanged" in text for text in told)
    told.clear()
    run(told, image=p["front"], left=p["right"])
    assert any("the left looks like the right" in text for text in told)


def test_sides_on_a_plain_backdrop_are_cut_out_too() -> None:
    made = run(image=file_of(on_white(disc(160))), back=file_of(on_white(disc(240, 0.3))))
    back = made["given_views"][BACK, ..., 3]
    assert abs(height(back) - height(made["alpha"][..., 0])) <= 3
