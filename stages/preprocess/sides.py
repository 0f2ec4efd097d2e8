"""From the pictures of an object's sides to the artifact `given_views`, with what is doubtful."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from stages.preprocess.alike import (
    Framed,
    Side,
    frame_alike,
    frame_like_front,
    stacked,
)
from stages.preprocess.doubted_sides import doubts_about_sides
from stages.preprocess.likeness import Look
from stages.preprocess.roles import read_roles


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
    for text in doubts_about_sides(seen, looks, roles == "named"):
        warn(text)
    return front, stacked(framed, len(front.image))
