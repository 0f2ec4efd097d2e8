"""From the pictures of an object's sides to the artifact `given_views`, with what is doubtful."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import numpy as np

from stages.preprocess.alike import (
    SIDES,
    Framed,
    Side,
    frame_alike,
    frame_like_front,
    stacked,
)
from stages.preprocess.likeness import Look, as_side, mirrored_agreement, palette_overlap
from stages.preprocess.roles import SURE, read_roles

OPPOSITES: tuple[tuple[str, str], ...] = (("back", "front"), ("right", "left"))
LEAST_AGREEMENT = 0.7
"""Of an outline and the mirrored one of the opposite side. Of bench/geometry/shapes.py's objects,
which stand near the camera, the least is 0.78 (a table's legs); of pairs of them the median is
0.59."""
LEAST_PALETTE = 0.15
"""Of the colours of two pictures of one object: of those objects the least is 0.44; of pairs of
them the median is 0.09."""


def join_sides(
    front: Framed,
    sides: Mapping[Side, Framed],
    roles: Literal["named", "auto"],
    ratio: float,
    max_side: int,
    keep_front: bool,
    warn: Callable[[str], None],
) -> tuple[Framed, np.ndarray]:
    """The front on its new canvas, and `given_views`.

    roles       auto: what each picture shows is found out, and told
    ratio       of the canvas, that the longest of all heights and widths takes
    keep_front  leave the front where it is, and frame the sides like it
    """
    if keep_front:
        framed = frame_like_front(front, sides)
    else:
        front, framed = frame_alike(front, sides, ratio, max_side)
    looks = {name: Look.of(side) for name, side in framed.items()}
    seen = Look.of(front)
    if roles == "auto":
        reading = read_roles(seen, looks)
        warn(f"--views auto: {'; '.join(reading.in_words())}. Where that is wrong, say which is "
             "which with --back, --left and --right")  # fmt: skip
        framed = {reading.roles[name]: side for name, side in framed.items()}
        looks = {reading.roles[name]: look for name, look in looks.items()}
    for text in _doubts(seen, looks, roles):
        warn(text)
    return front, stacked(framed, len(front.image))


def _doubts(front: Look, sides: Mapping[Side, Look], roles: str) -> Iterator[str]:
    """What speaks against it that these pictures show one object from these sides."""
    looks = {"front": front, **{str(name): look for name, look in sides.items()}}
    for one, other in OPPOSITES:
        if one in looks and other in looks:
            overlap = mirrored_agreement(looks[one], looks[other])
            if overlap < LEAST_AGREEMENT:
                yield (
                    f"the outlines of {other} and {one} are hardly mirror images of each other "
                    f"(overlap {overlap:.0%}): do they show one object, from opposite sides?"
                )
    for name in SIDES:
        if name in sides and palette_overlap(front, sides[name]) < LEAST_PALETTE:
            yield (
                f"the picture of the {name} has hardly a colour in common with the front's: does "
                "it show the same object?"
            )
    if roles == "named" and (gain := _gain_by_exchange(front, sides)) >= SURE:
        both = "left" in sides and "right" in sides
        what = "left and right look interchanged" if both else (
            "the picture of the left looks like the right"
            if "left" in sides
            else "the picture of the right looks like the left"
        )  # fmt: skip
        yield (
            f"{what} (margin {gain:.2f}): the left is the object's own, which a picture of its "
            "front has on the right"
        )


def _gain_by_exchange(front: Look, sides: Mapping[Side, Look]) -> float:
    """By how much left and right would agree better with front and back, were they exchanged."""
    kept = exchanged = 0.0
    order: tuple[Side, ...] = ("left", "right")
    for number, name in enumerate(order):
        if name in sides:
            costs = as_side(sides[name], front, sides.get("back"))
            kept, exchanged = kept + costs[number], exchanged + costs[1 - number]
    return (kept - exchanged) / max(kept + exchanged, 1e-6)
