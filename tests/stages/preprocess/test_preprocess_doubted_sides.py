"""Pictures that show no one object, or other sides than was said; and true ones, left in peace."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from devtools.pictures import file_of
from devtools.sided import pictures_of, toy
from stages.contract import Context
from stages.preprocess.doubted_sides import doubts_about_sides
from stages.preprocess.likeness import Look, colours_apart
from stages.preprocess.stage import Preprocess, PreprocessParams

EXAMPLES = Path(__file__).parents[3] / "examples"
NO_OBJECT = "do not seem to show one object"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.preprocess.stage.locate", lambda name: None)


@functools.cache
def example(name: str) -> bytes:
    return (EXAMPLES / f"{name}.png").read_bytes()


def in_light(picture: Image.Image, gamma: float) -> bytes:
    pixels = np.array(picture)
    pixels[..., :3] = np.rint(255.0 * (pixels[..., :3] / 255.0) ** gamma)
    return file_of(Image.fromarray(pixels))


@functools.cache
def toy_pictures(gamma: float = 1.0) -> dict[str, bytes]:
    return {side: in_light(one, gamma) for side, one in pictures_of(toy(), 192).items()}


def told_of(sides: str = "named", **files: bytes) -> list[str]:
    """Warnings of the pictures, by input name without `input_`."""
    told: list[str] = []
    stage = Preprocess(PreprocessParams(sides=sides))  # type: ignore[arg-type]
    given: dict[str, Any] = {f"input_{name}": data for name, data in files.items()}
    stage.run(given, Context(warn=lambda text, degraded=False: told.append(text)))
    return told


@pytest.mark.parametrize(
    ("pair", "side"),
    # The figure is one of colours, whatever the side, and whichever of the two is the front.
    [
        (("robot", "mug"), "back"),
        (("mug", "mushroom"), "left"),
        (("mushroom", "robot"), "right"),
        pytest.param(("mug", "robot"), "left", marks=pytest.mark.slow),
        pytest.param(("mushroom", "mug"), "back", marks=pytest.mark.slow),
        pytest.param(("robot", "mushroom"), "left", marks=pytest.mark.slow),
    ],
)
def test_another_objects_picture_is_doubted_with_figures(pair: tuple[str, str], side: str) -> None:
    front, other = pair
    told = told_of(image=example(front), **{side: example(other)})
    (text,) = [text for text in told if NO_OBJECT in text]
    assert text.startswith(f"the pictures of the front and the {side} ")
    assert "(difference " in text
    assert "of one object at most 26" in text


def test_another_object_is_doubted_where_sides_are_found_out_too() -> None:
    told = told_of("auto", image=example("robot"), back=example("mug"))
    assert told[0].startswith("--views auto: picture 2 is the ")
    assert NO_OBJECT in told[1]


@pytest.mark.parametrize("gamma", [0.8, 1.0, 1.3])
def test_true_sides_are_left_in_peace_in_another_light_too(gamma: float) -> None:
    sides = {side: data for side, data in toy_pictures(gamma).items() if side != "front"}
    front = toy_pictures()["front"]
    assert not told_of(image=front, **sides)
    for side, data in sides.items():
        assert not told_of(image=front, **{side: data}), side
    both = {side: sides[side] for side in ("left", "right")}
    assert not told_of(image=front, **both)


def halves(left: tuple[float, float], right: tuple[float, float]) -> Look:
    """An upright bar whose halves have these a and b of CIELAB."""
    inside = np.zeros((96, 96), bool)
    inside[10:86, 28:68] = True
    lab = np.full((96, 96, 3), 50.0, np.float32)
    lab[:, :48, 1:], lab[:, 48:, 1:] = left, right
    return Look(inside, lab)


def test_left_and_right_are_told_when_interchanged_by_a_small_margin() -> None:
    """Colours of both sides differ from the front's, and a little less where they belong."""
    front = halves((0, 0), (8, 0))
    left, right = halves((8, 20), (16, 20)), halves((-8, 20), (0, 20))
    (text,) = doubts_about_sides(front, {"left": right, "right": left}, named=True)
    assert text.startswith("left and right look interchanged (margin 0.12)")
    assert not list(doubts_about_sides(front, {"left": right, "right": left}, named=False))
    assert not list(doubts_about_sides(front, {"left": left, "right": right}, named=True))
    assert not list(doubts_about_sides(front, {"left": right}, named=True))


def test_one_file_for_several_sides_is_told() -> None:
    pictures = toy_pictures()
    front, left = pictures["front"], pictures["left"]
    assert any(
        text.startswith("one and the same picture was given for the left and the right")
        for text in told_of(image=front, left=left, right=left)
    )
    assert any(
        text.startswith("one and the same picture was given for the front, the back and the left")
        for text in told_of(image=front, back=front, left=front)
    )
    assert any(
        text.startswith("one and the same picture was given for the front and picture 2")
        for text in told_of("auto", image=front, back=front)
    )


def test_another_exposure_is_no_difference_and_another_colour_is() -> None:
    def look(lab: tuple[float, float, float]) -> Look:
        inside = np.zeros((96, 96), bool)
        inside[10:80, 30:60] = True
        return Look(inside, np.broadcast_to(np.array(lab, np.float32), (96, 96, 3)))

    grey = look((50, 0, 0))
    assert colours_apart(grey, look((59, 0, 0))) == pytest.approx(0.0, abs=1e-4)
    assert colours_apart(grey, look((75, 0, 0))) == pytest.approx(15.0, abs=1e-4)
    assert colours_apart(grey, look((50, 0, 30))) == pytest.approx(30.0, abs=1e-4)
    assert colours_apart(grey, look((50, 0, 90))) == pytest.approx(40.0, abs=1e-4)
