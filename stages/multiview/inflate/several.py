"""The four views of an object of which more than its front is given.

With a side, the body is as deep as that says (`solid`); with the back alone it is the front's
body as without, and the back's colours are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from stages.contract import Mesh
from stages.geometry.bundle import TILE
from stages.geometry.cameras import bundle_cameras
from stages.geometry.normal_fusion.guess import encoded
from stages.geometry.raster import Rasterizer
from stages.geometry.render import coverage, look
from stages.models.sketch_net.opening import See
from stages.multiview.inflate.align import Placement, align
from stages.multiview.inflate.learned import Sheets, as_the_network_takes, see_sheets
from stages.multiview.inflate.mosaic import Guess, mosaic
from stages.multiview.inflate.params import InflateParams
from stages.multiview.inflate.solid import solid_body
from stages.multiview.inflate.texture import blurred_versions
from stages.multiview.inflate.views import (
    FourViews,
    fitting_scale,
    front_view,
    inflate_body,
    paint,
    to_bytes,
    to_tile,
)

FRONT, LEFT, BACK, RIGHT = range(4)
GIVEN_ORDER = (BACK, LEFT, RIGHT)
"""Views of the artifact `given_views`."""
MIRRORED = 0.006
"""Misfit up to which an outline that is not given is taken for the mirrored one of the opposite
side. With it a teapot of front and left comes to a Chamfer distance of 0.022 instead of 0.069, an
animal to 0.023 instead of 0.033; a table (0.05) and a chair (0.01), whose legs stand elsewhere in
the opposite view, would get worse."""
DOUBTFUL = 0.08
"""Misfit from which on people are told of it; a table's, in the four true views of it, is 0.07 when
all are framed alike and less when they are placed."""

Picture = tuple[np.ndarray, np.ndarray]
"""(512, 512, 3) colours on white and (512, 512) coverage, float32 in [0, 1]."""


@dataclass(frozen=True)
class Tools:
    """What the work is done with."""

    params: InflateParams
    rasterizer: Rasterizer
    threads: int
    warn: Callable[..., None]
    see: See | None


def given_pictures(
    image: np.ndarray, alpha: np.ndarray, given: np.ndarray, side: int = TILE
) -> dict[int, Picture]:
    """view -> picture in its tile, `side` pixels of it. See `IMAGE`, `ALPHA`, `GIVEN_VIEWS`."""
    found = {FRONT: (to_tile(image, side, background=1.0), to_tile(alpha, side))}
    for view, layer in zip(GIVEN_ORDER, given, strict=True):
        if layer[..., 3].any():
            found[view] = (
                to_tile(layer[..., :3], side, background=1.0),
                to_tile(layer[..., 3:], side),
            )
    return found


def make_several(
    image: np.ndarray, alpha: np.ndarray, given: np.ndarray, tools: Tools
) -> FourViews:
    """As `make_views`, with the pictures of `given` in place of guesses. Of sides the body is made
    roughly, for their places and the colours of the others: views and normals tell more of it.

    Raises BadInput if an outline is empty or no body has them all.
    """
    pictures = given_pictures(image, alpha, given)
    body, placed = _body_of(pictures, tools)
    scale = fitting_scale(body.vertices)
    if scale < 1.0:
        side = 2 * int(TILE * scale / 2.0)
        pictures = given_pictures(image, alpha, given, side)
        body, placed = _body_of(pictures, tools)
    views, normals = mosaic(body, placed, _guesses(placed, tools), tools.rasterizer)
    views[FRONT] = front_view(*pictures[FRONT], body.vertices, body.faces, tools.rasterizer)
    rough = LEFT in pictures or RIGHT in pictures
    return FourViews(to_bytes(views), to_bytes(normals), None if rough else body)


def _body_of(pictures: Mapping[int, Picture], tools: Tools) -> tuple[Mesh, dict[int, Picture]]:
    """The body, and the pictures where they belong in their tiles."""
    if LEFT in pictures or RIGHT in pictures:
        return _from_sides(pictures, tools)
    made = inflate_body(*pictures[FRONT], tools.params, _sheets(pictures[FRONT], tools))
    body = Mesh(made.vertices, made.faces)
    seen = look(body.vertices, body.faces, bundle_cameras()[BACK], TILE, 1, tools.rasterizer)
    there = _onto(pictures[BACK][1], coverage(seen, 1))
    return body, {FRONT: pictures[FRONT], BACK: _moved(pictures[BACK], there)}


def _from_sides(pictures: Mapping[int, Picture], tools: Tools) -> tuple[Mesh, dict[int, Picture]]:
    covers = {view: cover for view, (_, cover) in pictures.items()}
    missing = [view for view in range(4) if view not in covers]
    mirrored = {view: np.ascontiguousarray(covers[_opposite(view)][:, ::-1]) for view in missing}
    places, misfit = align({**covers, **mirrored})
    kept = {**covers, **mirrored}
    if missing and misfit > MIRRORED:
        places, misfit = align(covers)
        kept = covers
    if misfit > DOUBTFUL:
        tools.warn(
            f"the outlines of the given pictures do not fit together: {misfit:.0%} of them is no "
            "outline of a body that all have in common; do they show one object, upright, from "
            "its front and its sides?"
        )
    placed = {view: _moved(one, places[view]) for view, one in pictures.items()}
    body = solid_body(
        {view: places[view].apply(cover, 0.0) for view, cover in kept.items()},
        tools.params.voxels,
        tools.rasterizer,
        tools.threads,
        _told_normals(placed, tools.see),
    )
    return body, placed


def _sheets(picture: Picture, tools: Tools) -> Sheets | None:
    return None if tools.see is None else see_sheets(tools.see, *picture)


def _told_normals(placed: Mapping[int, Picture], see: See | None) -> dict[int, np.ndarray]:
    """view -> (512, 512, 3) in the bundle's encoding; nothing without the network."""
    if see is None:
        return {}
    cameras = bundle_cameras()
    return {
        view: encoded(see(as_the_network_takes(picture)).normal, TILE, cameras[view])
        for view, (picture, _) in placed.items()
    }


def _opposite(view: int) -> int:
    return (view + 2) % 4


def _moved(picture: Picture, there: Placement) -> Picture:
    return there.apply(picture[0], 1.0), there.apply(picture[1], 0.0)


def _onto(cover: np.ndarray, target: np.ndarray) -> Placement:
    """So that the box around `cover` is as high as the one around `target`, and in its middle."""
    (top, bottom, left, right), aim = _box(cover), _box(target)
    scale = (aim[1] - aim[0]) / (bottom - top)
    return Placement(
        scale,
        (aim[2] + aim[3]) / 2.0 - 0.5 - scale * ((left + right) / 2.0 - 0.5),
        (aim[0] + aim[1]) / 2.0 - 0.5 - scale * ((top + bottom) / 2.0 - 0.5),
    )


def _box(cover: np.ndarray) -> tuple[float, float, float, float]:
    """Top, bottom, left, right of what is covered, shares of the tile."""
    inside = cover > 0.5
    if not inside.any():
        inside = cover >= cover.max()
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    size = float(len(cover))
    return rows[0] / size, (rows[-1] + 1) / size, columns[0] / size, (columns[-1] + 1) / size


def _guesses(placed: Mapping[int, Picture], tools: Tools) -> dict[int, Guess]:
    """For views without a picture: of a side the other one's mirror image, of the back what the
    front's outline says; front and back speak for sides that are both missing."""
    found = {}
    for view in (LEFT, RIGHT):
        other = _opposite(view)
        if view not in placed and other in placed:
            picture, cover = placed[other]
            spread = blurred_versions(picture, cover)[0]
            found[view] = Guess(view, np.ascontiguousarray(spread[:, ::-1]))
    if BACK not in placed:
        sheets = _sheets(placed[FRONT], tools)
        found[BACK] = Guess(FRONT, paint(*placed[FRONT], tools.params, sheets).back)
    return found
