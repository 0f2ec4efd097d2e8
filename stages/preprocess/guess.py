"""The object in front of a background that is not plain: by the network, by GrabCut, by both.

The network is believed where it is sure, and followed, with a warning, where it is fairly sure and
GrabCut's outline does not run along a clearly greater step in colour. Where it is not, GrabCut is
run twice: from colours alone, and from what the network holds to be likely; the latter is taken
where its outline runs along the clearly greater step. Where the network sees next to nothing, or is
missing, GrabCut stays by itself. docs/sketch-network.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from stages.preprocess.backdrop import to_lab
from stages.preprocess.grabcut import SIDE, grabcut
from stages.preprocess.learned import Network, Seen, look
from stages.preprocess.regions import significant
from stages.preprocess.resample import shrink

SURE = 0.2
"""`Seen.open` up to which the network is believed: 64 of 72 composites, mean overlap 0.99, worst
0.87."""

FOLLOWED = 0.6
"""`Seen.open` up to which it is followed nevertheless. Photographs of a person at work and of an
astronaut (0.3) come out nearly whole, where GrabCut tears them."""

LOST = 1.0
"""`Seen.open` from which it is no help to GrabCut either."""

BETTER = 1.25
"""How many times as great a step has to be to be clearly greater. On real photographs GrabCut's own
outline is mostly better than that from what the network holds to be likely; 1 and 1.3 measure alike
on composites. Where the network is fairly sure, GrabCut's outlines that are worse have up to 1.18
of its step, and of those that are better some have 1.4 and 1.5."""

VISIBLE = 5.0
"""Delta E by which a step has to be greater at least: of white on white both are 3 or 4, and which
is the greater says nothing."""

GREATEST_STEP = 40.0
"""Delta E above which a step in colour counts no more: black on white is no better an outline."""

Way = Literal[
    "plain backdrop", "plain backdrop and network", "network", "network and grabcut", "grabcut"
]
"""What told the object from its background."""

Doubt = Literal["", "chosen", "missing", "unsure"]
"""Why a guess is no more than that: the user wanted GrabCut, the network is missing, or it is not
sure. "": it is sure."""


@dataclass(frozen=True)
class Guess:
    """mask (h, w) bool, the object, without dust."""

    mask: np.ndarray
    way: Way
    doubt: Doubt


Guesser = Callable[[np.ndarray], Guess]
"""Of a picture (h, w, 3) uint8 without a plain backdrop."""

Eye = Callable[[np.ndarray], Seen | None]
"""What the network sees in a picture (h, w, 3) uint8; None without a network."""


def guess_by_colours(rgb: np.ndarray, doubt: Doubt = "chosen") -> Guess:
    """By GrabCut alone."""
    return Guess(significant(grabcut(rgb)), "grabcut", doubt)


def guess_by_network(rgb: np.ndarray, network: Network) -> Guess:
    """By the network alone, however sure it is."""
    seen = look(rgb, network)
    return Guess(significant(seen.mask), "network", "" if seen.open <= SURE else "unsure")


def best_guess(rgb: np.ndarray, network: Network) -> Guess:
    """By the network where it is nearly sure, else by it and GrabCut, or by GrabCut alone."""
    seen = look(rgb, network)
    followed = Guess(significant(seen.mask), "network", "" if seen.open <= SURE else "unsure")
    if seen.open <= SURE:
        return followed
    alone = guess_by_colours(rgb, "unsure")
    if seen.open <= FOLLOWED:
        told = outline_step(rgb, followed.mask)
        least = max(BETTER * told, told + VISIBLE)
        return alone if outline_step(rgb, alone.mask) > least else followed
    if seen.open > LOST:
        return alone
    both = significant(grabcut(rgb, seen.share))
    if outline_step(rgb, both) > BETTER * outline_step(rgb, alone.mask):
        return Guess(both, "network and grabcut", "unsure")
    return alone


def outline_step(rgb: np.ndarray, mask: np.ndarray) -> float:
    """Mean difference of the colours on both sides of the outline of `mask` (h, w) bool, Delta E
    up to `GREATEST_STEP`; 0 without an outline. The picture's edge is none."""
    small = shrink(rgb, SIDE)
    height, width = small.shape[:2]
    lab = to_lab(small)
    share = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    inside = (share > 0.5).astype(np.float32)
    inner, inner_weight = _mean_beside(lab, inside)
    outer, outer_weight = _mean_beside(lab, 1.0 - inside)
    rim = (inside > 0) & (cv2.erode(inside, np.ones((3, 3), np.uint8)) == 0)
    rim[[0, -1]] = False
    rim[:, [0, -1]] = False
    rim &= (inner_weight > 0.05) & (outer_weight > 0.05)
    if not rim.any():
        return 0.0
    steps = np.linalg.norm(inner - outer, axis=2)[rim]
    return float(np.minimum(steps, GREATEST_STEP).mean())


def _mean_beside(lab: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of `lab` (h, w, 3) over 7 x 7 pixels as far as `weight` (h, w) has it, and how far."""
    near = cv2.blur(weight, (7, 7))
    summed = cv2.blur(lab * weight[..., None], (7, 7))
    return summed / np.maximum(near, 1e-4)[..., None], near
