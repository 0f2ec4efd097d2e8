"""What speaks against it that pictures show one object, from the sides that they were given as.

The measures were taken of true sides (views of sketch's bundles of nine pictures; two renderings
each of 16 objects made in code, also with gamma 0.7 and 1.5 over all sides) and of false ones
(the nine pictures in each other's place).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from stages.preprocess.alike import SIDES, Side
from stages.preprocess.likeness import (
    Look,
    as_side,
    colours_apart,
    mirrored_agreement,
    palette_overlap,
)

LEAST_AGREEMENT = 0.7
"""Of an outline and the mirrored one of the opposite side. Of bench/geometry/shapes.py's objects,
which stand near the camera, the least is 0.78 (a table's legs); of pairs of them the median is
0.59."""
LEAST_PALETTE = 0.15
"""Of the colours of two pictures of one object: of those objects the least is 0.44; of pairs of
them the median is 0.09."""
MOST_APART = 26.0
"""`colours_apart` of two pictures of one object. True sides: at most 23.7, and 25.0 in another
light (an object of which every side has a colour of its own). False ones: half of them 30.5 and
more, a tenth below 23.6 (two dark objects: 14.0), so that not all are told."""
EXCHANGED_ALL, EXCHANGED_PAIR, EXCHANGED_ONE = 0.05, 0.1, 0.2
"""Margins by which left and right must agree better in each other's place: of both together with a
back, of both without one, and of one of them alone, which says less. In their own place the most
is 0.01, 0.01 and 0.15 (in another light 0.01, 0.09 and 0.18). Exchanged, the views of eight of the
nine pictures have 0.15 to 0.52, 0.10 to 0.51, and -0.1 to 0.5 of one alone; the ninth is nearly
symmetric."""


def doubts_about_sides(front: Look, sides: Mapping[Side, Look], named: bool) -> Iterator[str]:
    """Texts for people about pictures on canvases of one size, their objects equally high.

    named: people said which side each shows, so that they may have erred.
    """
    for name in SIDES:
        if name in sides and (found := _another_object(name, front, sides[name])):
            yield (
                f"the pictures of the front and the {name} do not seem to show one object: "
                f"{', '.join(found)}"
            )
    if "left" in sides and "right" in sides:
        overlap = mirrored_agreement(sides["left"], sides["right"])
        if overlap < LEAST_AGREEMENT:
            yield (
                "the outlines of left and right are hardly mirror images of each other "
                f"(overlap {overlap:.0%}): do they show one object, from opposite sides?"
            )
    both = "left" in sides and "right" in sides
    gain = gain_by_exchange(front, sides) if named else 0.0
    least = EXCHANGED_ONE if not both else EXCHANGED_ALL if "back" in sides else EXCHANGED_PAIR
    if gain >= least:
        what = "left and right look interchanged" if both else (
            "the picture of the left looks like the right"
            if "left" in sides
            else "the picture of the right looks like the left"
        )  # fmt: skip
        yield (
            f"{what} (margin {gain:.2f}): the left is the object's own, which a picture of its "
            "front has on the right"
        )


def gain_by_exchange(front: Look, sides: Mapping[Side, Look]) -> float:
    """By how much left and right would agree better with front and back, were they exchanged."""
    kept = exchanged = 0.0
    order: tuple[Side, ...] = ("left", "right")
    for number, name in enumerate(order):
        if name in sides:
            costs = as_side(sides[name], front, sides.get("back"))
            kept, exchanged = kept + costs[number], exchanged + costs[1 - number]
    return (kept - exchanged) / max(kept + exchanged, 1e-6)


def _another_object(name: Side, front: Look, side: Look) -> list[str]:
    """What does not match, with by how much; nothing where all does."""
    found = []
    if name == "back" and (overlap := mirrored_agreement(side, front)) < LEAST_AGREEMENT:
        found.append(
            f"their outlines are hardly mirror images of each other (overlap {overlap:.0%}, of "
            f"one object at least {LEAST_AGREEMENT:.0%})"
        )
    if (shared := palette_overlap(front, side)) < LEAST_PALETTE:
        found.append(
            f"they have hardly a colour in common (palettes overlap by {shared:.0%}, of one "
            f"object by at least {LEAST_PALETTE:.0%})"
        )
    if (apart := colours_apart(front, side)) > MOST_APART:
        found.append(
            f"their colours at the same heights do not match (difference {apart:.0f} in CIELAB, "
            f"of one object at most {MOST_APART:.0f})"
        )
    return found
