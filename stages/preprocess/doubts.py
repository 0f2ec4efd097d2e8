"""What a person should look at before trusting a cutout."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from stages.preprocess.segment import Segmentation
from stages.preprocess.shapes import fill

MIN_CONTACT = 0.01
"""Share of a side of the picture along which the object must touch it to be cut off there."""

MIN_CUT_OFF = 0.1
"""Share that the object and the picture's edge enclose from which it is worth a word: between the
legs of somebody who stands there it is less."""

MIN_PIECE = 0.02
"""Share of the object from which a loose piece is worth a word."""

REMEDY = (
    "look at it in the preview. `kiss3d-orchestrate models pull isnet-general-use` (0.18 GB) "
    "gets a network that finds objects; or give --mask FILE"
)
GUESSED = (
    f"GrabCut guessed the object from its colours, which goes wrong on most photographs: {REMEDY}"
)
"""A picture without a plain backdrop, and no network, or none that was sure."""

UNSURE = "the network that comes with the program is not sure where the object ends"
MISSING = (
    "this installation lacks the network that finds objects "
    "(stages/models/sketch_net/sketch_net.safetensors)"
)


def doubts_about(
    found: Segmentation, width: int, height: int, trimmed: bool, masked: bool = False
) -> Iterator[str]:
    """Texts for people about an object in a picture of `width` x `height`.

    trimmed  the object was cut out before, so that one that reaches to all sides is not cut off
    masked   a mask of the user's says what the object is
    """
    if found.doubt:
        yield _guessed(found)
    sides = _touched(found, width, height)
    other = "the mask has background in it" if masked else "this is background"
    if len(sides) >= 2 and not (trimmed and _fills_the_frame(found, width, height)):
        yield (
            f"the object touches the picture's edge at the {_listed(sides)}: what lies beyond is "
            f"missing from the mesh, or {other}; use a picture that shows all of it"
        )
    shares = _pieces(found.mask)
    if len(shares) > 1:
        listed = ", ".join(f"{share:.0%}" for share in shares[:4])
        more = ", ..." if len(shares) > 4 else ""
        fills = found.cut_off >= MIN_CUT_OFF or len(_pieces(fill(found.mask))) < len(shares)
        mask = "a mask that has it" if masked else "--mask FILE"
        remedy = f"--set preprocess.holes=fill or {mask}" if fills else mask
        yield (
            f"the object is in {len(shares)} loose pieces ({listed}{more}), and so will the mesh "
            f"be; if a part is missing between them, {remedy} may help"
        )
    if found.cut_off >= MIN_CUT_OFF:
        yield (
            f"{found.cut_off:.0%} of what the object and the picture's edge enclose has the "
            "backdrop's colour and was taken for background; --set preprocess.holes=fill if it is "
            "a part of the object that is cut off there"
        )
    if found.at_edge >= MIN_CUT_OFF:
        yield (
            f"{found.at_edge:.0%} of what the object and the picture's edge enclose has the "
            "backdrop's colour and was taken for a part of the object, which is cut off there; "
            "--set preprocess.holes=keep if it is background"
        )
    if found.joined:
        yield (
            "what has the backdrop's colour between the segments of a ring was taken for a part of "
            "it; --set preprocess.holes=keep if one sees through there"
        )
    if found.floating:
        yield (
            f"{found.floating:.0%} of the outline's inside has the backdrop's colour and was taken "
            "for a part of the object, because something lies loose in it; "
            "--set preprocess.holes=keep if one sees through there"
        )
    if found.doubtful:
        yield (
            f"{found.doubtful:.0%} of the outline's inside has the backdrop's colour and was taken "
            "for holes; --set preprocess.holes=fill if these are white parts of the object"
        )


def _guessed(found: Segmentation) -> str:
    if found.way == "network":
        return f"{UNSURE}: {REMEDY}"
    if found.way == "network and grabcut":
        return f"{UNSURE}, and GrabCut guessed the rest from colours: {REMEDY}"
    reason = {"unsure": f"{UNSURE}. ", "missing": f"{MISSING}. "}
    return reason.get(found.doubt, "") + GUESSED


def _touched(found: Segmentation, width: int, height: int) -> list[str]:
    """Sides of the picture that the object touches over a length that is no accident."""
    mask, region = found.mask, found.region
    sides = {
        "top": (region.top <= 0.5, mask[0]),
        "bottom": (region.bottom >= height - 0.5, mask[-1]),
        "left": (region.left <= 0.5, mask[:, 0]),
        "right": (region.right >= width - 0.5, mask[:, -1]),
    }
    return [
        name
        for name, (at_edge, line) in sides.items()
        if at_edge and int(line.sum()) >= max(3.0, MIN_CONTACT * line.size)
    ]


def _fills_the_frame(found: Segmentation, width: int, height: int) -> bool:
    box, slack = found.object_box, max(2.0, 0.01 * max(width, height))
    return box is not None and (
        max(box.left, box.top, width - box.right, height - box.bottom) <= slack
    )


def _pieces(mask: np.ndarray) -> list[float]:
    """Shares of the object of its loose pieces, the largest first."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    area = stats[1:, cv2.CC_STAT_AREA]
    shares = np.sort(area / max(1, area.sum()))[::-1]
    return [float(share) for share in shares if share >= MIN_PIECE]


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + f" and {names[-1]}"
