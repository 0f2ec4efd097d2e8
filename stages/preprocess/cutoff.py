"""Parts of an object that the picture's edge cuts through.

A white shirt that goes on below the picture is open there: its white is joined to the edge, and so
to all that is outside, though the object closes around it. Here what the object and the edge
enclose together is found, and closed off beyond the edge, so that it can be judged as any other
enclosed piece is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.preprocess.regions import label_regions

BEYOND = 0.25
"""How far the object is taken to go on beyond the edge, of the picture's longest side: so far that
what lies at the edge lies deep inside of it."""


@dataclass(frozen=True)
class Bay:
    """A region without object that the object and the picture's edge enclose together.

    mask     (h, w) bool
    corners  how many of the picture's corners lie in it: 0 between two legs
    """

    mask: np.ndarray
    corners: int


def bays_of(mask: np.ndarray) -> list[Bay]:
    """All of an object's mask (h, w) bool but the outside, which has most of the edge.

    With a corner in them they are outside as well where the object reaches to all four sides: those
    are what is left around an object that was cropped tightly.
    """
    labels, count = label_regions(~mask)
    sides = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
    rim = np.bincount(np.concatenate(sides), minlength=count + 1)
    rim[0] = 0
    corners = np.bincount(labels[[0, 0, -1, -1], [0, -1, 0, -1]], minlength=count + 1)
    tight = all((side == 0).any() for side in sides)
    return [
        Bay(labels == label, int(corners[label]))
        for label in np.flatnonzero(rim)
        if label != rim.argmax() and not (tight and corners[label])
    ]


def beyond(mask: np.ndarray) -> int:
    """Pixels that `closed_off` adds at each side."""
    return max(8, round(BEYOND * max(mask.shape)))


def closed_off(mask: np.ndarray, bays: list[Bay]) -> np.ndarray:
    """`mask` with what lies beyond the edge, (h + 2 n, w + 2 n) for n = `beyond(mask)`.

    The object goes on there, straight, and so do the bays, as object.
    """
    both = mask.copy()
    for bay in bays:
        both |= bay.mask
    size = beyond(mask)
    wider = np.pad(both, size, mode="edge")
    wider[size:-size, size:-size] = mask
    return wider
