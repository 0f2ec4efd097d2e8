"""Objects that the picture's edge cuts, and rings and signs: the right mask, or a true warning."""

from __future__ import annotations

import numpy as np
import pytest

from devtools import drawings
from devtools.drawings import Draw, drawn
from stages.preprocess.doubts import doubts_about
from stages.preprocess.segment import Segmentation, segment

Points = list[tuple[int, int]]


def found_in(draw: Draw, holes: str = "auto") -> Segmentation:
    found = segment(np.asarray(drawn(draw)), holes)  # type: ignore[arg-type]
    assert found.plain
    assert found.mask.shape == (drawings.SIDE, drawings.SIDE)
    return found


def told(found: Segmentation) -> str:
    return "\n".join(doubts_about(found, drawings.SIDE, drawings.SIDE, trimmed=False))


@pytest.mark.parametrize(
    ("draw", "inside"),
    [
        (drawings.cut_face, [(200, 300), (200, 398), (120, 398)]),
        (drawings.face_in_the_corner, [(340, 340), (398, 398)]),
        (drawings.cat_on_three_sides, [(200, 398), (2, 398), (398, 398)]),
        (drawings.cut_penguin, [(200, 300), (200, 398), (150, 110)]),
    ],
)
def test_white_that_reaches_the_edge_is_kept_where_the_object_has_such_parts(
    draw: Draw, inside: Points
) -> None:
    found = found_in(draw)
    assert all(found.mask[y, x] for x, y in inside)
    assert not found.mask[2, 2]
    said = told(found)
    assert "was taken for a part of the object, which is cut off there" in said
    assert "--set preprocess.holes=keep" in said
    assert "loose pieces" not in said
    assert not all(found_in(draw, "keep").mask[y, x] for x, y in inside), "the remedy works"


@pytest.mark.parametrize(
    ("draw", "through"),
    [
        (drawings.cut_shirt, [(200, 350)]),
        (drawings.cut_table, [(200, 300)]),
        (drawings.cut_handle, [(350, 200)]),
    ],
)
def test_without_evidence_it_stays_open_and_that_is_said(draw: Draw, through: Points) -> None:
    found = found_in(draw)
    assert not any(found.mask[y, x] for x, y in through)
    assert "was taken for background; --set preprocess.holes=fill" in told(found)
    filled = found_in(draw, "fill")
    assert all(filled.mask[y, x] for x, y in through), "the remedy works"
    assert not filled.mask[2, 2]
    assert "taken for" not in told(filled), "the user has decided"


@pytest.mark.parametrize("holes", ["auto", "fill"])
def test_corners_around_an_object_that_was_cropped_tightly_are_background(holes: str) -> None:
    found = found_in(drawings.tight_disc, holes)
    assert not any(found.mask[y, x] for x, y in [(3, 3), (396, 3), (3, 396), (396, 396)])


@pytest.mark.parametrize("draw", [drawings.lifebuoy, drawings.outlined_lifebuoy])
def test_a_lifebuoy_keeps_its_white_segments_and_its_hole(draw: Draw) -> None:
    found = found_in(draw)
    for x, y in [(200, 85), (85, 200), (200, 315), (315, 200), (120, 120)]:
        assert found.mask[y, x]
    for x, y in [(200, 200), (200, 140), (20, 20), (200, 30)]:
        assert not found.mask[y, x]
    assert "between the segments of a ring" in told(found)
    assert not found_in(draw, "keep").mask[85, 200], "the remedy works"


@pytest.mark.parametrize(
    ("draw", "through"),
    [
        (drawings.spokes, (270, 230)),
        (drawings.dots_in_a_circle, (250, 80)),
        (drawings.dashed_circle, (200, 200)),
    ],
)
def test_what_only_looks_like_a_ring_of_segments_stays_open(
    draw: Draw, through: tuple[int, int]
) -> None:
    found = found_in(draw)
    assert not found.mask[through[1], through[0]]
    assert "segments of a ring" not in told(found)


def test_a_sign_that_floats_in_a_ring_is_doubtful() -> None:
    said = told(found_in(drawings.copyright_sign))
    assert "because something lies loose in it" in said
    assert "--set preprocess.holes=keep" in said
    kept = found_in(drawings.copyright_sign, "keep")
    assert not kept.mask[100, 200]
    assert "lies loose" not in told(kept)
    for draw in (drawings.face, drawings.panda, drawings.iced_doughnut):
        assert told(found_in(draw)) == ""


def test_a_remedy_that_would_change_nothing_is_not_offered() -> None:
    said = told(found_in(drawings.dots_in_a_circle))
    assert "8 loose pieces" in said
    assert "holes=fill" not in said
    assert "--mask FILE" in said
