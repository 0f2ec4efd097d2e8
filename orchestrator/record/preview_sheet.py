"""result/preview.png: the picture, its views and normals, and the final mesh, on one sheet.

The mesh is seen by the cameras that the views are of, in its own colours: what differs between the
two rows differs in the mesh. What the stages have on white stands on grey here, where a white
object is seen too.
"""

from __future__ import annotations

import contextlib
import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from orchestrator.record.run_directory import RunDirectory
from orchestrator.record.thumbnails import (
    GROUND,
    cover_of_normals,
    input_thumbnail,
    on_ground,
    thumbnail,
)
from stages.contract.npy import map_npy

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

SIDES = ("front", "left", "back", "right")
BUNDLES = ("bundle", "reference_bundle")
"""The bundle that the mesh was made from: the first of these that there is."""
_TILE = 256
_MARGIN = 22
_ROW = _TILE + _MARGIN
_INK = (40, 40, 40)
_PAPER = (GROUND, GROUND, GROUND)
UNDRAWABLE = (OSError, ValueError, TypeError)
"""What artifacts of a strange shape, or none, raise: a picture for people must not end a run."""


Row: TypeAlias = tuple[str, Sequence[tuple[str, "Image.Image"]]]
"""What a row shows, and its pictures, each with what it shows of that."""


class PreviewSheet:
    """The sheet of one run. Thumbnails are made once: `prepare` makes those that it can while the
    last stage still computes, `png` the others."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._thumbnails: dict[str, list[Image.Image]] = {}

    def prepare(self, written: Mapping[str, str]) -> None:
        """Thumbnails of the input and of these artifacts (name -> the finished node that wrote it).

        What is wrong with one of them is met again, and told, by `png`.
        """
        with contextlib.suppress(*UNDRAWABLE):
            self._first_column(written)
            self._rows(written)

    def png(self, written: Mapping[str, str]) -> bytes:
        """The sheet, or b"" when there is nothing to show. Raises one of `UNDRAWABLE`."""
        from PIL import Image, ImageDraw

        try:
            column, rows = self._first_column(written), self._rows(written)
        finally:
            self._thumbnails.clear()  # a batch has many runs
        if not rows and len(column) < 2:
            return b""
        if not rows:  # nothing stands beside them
            rows, column = [("", column)], []
        column = column[: len(rows)]
        wide = bool(column) + max(len(tiles) for _, tiles in rows)
        sheet = Image.new("RGB", (wide * _TILE, len(rows) * _ROW), _PAPER)
        draw = ImageDraw.Draw(sheet)

        def put(image: Image.Image, col: int, top: int, label: str) -> None:
            left = col * _TILE
            sheet.paste(image, (left + (_TILE - image.width) // 2, top + _MARGIN))
            draw.text((left + 6, top + 5), label, fill=_INK)

        for index, (label, image) in enumerate(column):
            room = len(rows) * _ROW // len(column)  # all of the height is theirs
            put(image, 0, index * room + (room - _ROW) // 2, label)
        for index, (label, tiles) in enumerate(rows):
            for number, (side, tile) in enumerate(tiles):
                told = f"{label}: {side}" if label else side
                put(tile, bool(column) + number, index * _ROW, told)
        buffer = io.BytesIO()
        sheet.save(buffer, "png", compress_level=1)
        return buffer.getvalue()

    def _first_column(self, written: Mapping[str, str]) -> list[tuple[str, Image.Image]]:
        """The user's picture, what the stages work on, and what became of it."""
        found = [("input", image) for image in self._once("input", self._input)]
        if "image" in written:
            found += [("object", image) for image in self._images(written, "image")]
        if "renders" in written:
            found += [("mesh", image) for image in self._images(written, "renders")[len(SIDES) :]]
        return found

    def _rows(self, written: Mapping[str, str]) -> list[Row]:
        """The views, the normals and the mesh."""
        rows: list[tuple[str, list[Image.Image]]] = []
        bundle = next((name for name in BUNDLES if name in written), None)
        if bundle is not None:
            tiles = self._images(written, bundle)
            rows += [("views", tiles[: len(SIDES)]), ("normals", tiles[len(SIDES) :])]
        elif "views" in written:
            rows.append(("views", self._images(written, "views")))
        if "renders" in written:
            rows.append(("mesh", self._images(written, "renders")[: len(SIDES)]))
        return [(label, list(zip(SIDES, images, strict=False))) for label, images in rows]

    def _images(self, written: Mapping[str, str], artifact: str) -> list[Image.Image]:
        return self._once(artifact, lambda: self._standing(written, artifact))

    def _standing(self, written: Mapping[str, str], artifact: str) -> list[Image.Image]:
        """The images of an artifact on the grey ground, as far as there is to read where the object
        is: in the normals beside, in `alpha` or in a fourth channel."""
        images = self._small(written, artifact)
        covers: list[Image.Image] = []
        if artifact in BUNDLES:
            covers = [cover_of_normals(tile) for tile in images[len(SIDES) :]] * 2
        elif artifact == "views" and "view_normals" in written:
            covers = [cover_of_normals(tile) for tile in self._small(written, "view_normals")]
        elif artifact == "image" and "alpha" in written:
            covers = self._small(written, "alpha")
        return list(map(on_ground, images, covers)) if len(covers) == len(images) else images

    def _small(self, written: Mapping[str, str], artifact: str) -> list[Image.Image]:
        path = self._run.artifact_paths(written[artifact], artifact)[0]
        return [thumbnail(tile, _TILE) for tile in _tiles(path, artifact)]

    def _input(self) -> list[Image.Image]:
        given = self._run.manifest.input
        image = _words(given.text) if given.text else input_thumbnail(self._run.input_path, _TILE)
        return [] if image is None else [image]

    def _once(self, key: str, make: Callable[[], list[Image.Image]]) -> list[Image.Image]:
        if key not in self._thumbnails:
            self._thumbnails[key] = make()
        return self._thumbnails[key]


def _words(text: str) -> Image.Image | None:
    """What was asked for, as a picture; None for letters that Pillow's own font does not have."""
    from PIL import Image, ImageDraw

    if not text.isascii():
        return None
    image = Image.new("RGB", (_TILE, _TILE), _PAPER)
    lines = textwrap.wrap(text, 34, max_lines=12, placeholder=" ...")
    middle = (_TILE // 2, _TILE // 2)
    ImageDraw.Draw(image).multiline_text(
        middle, "\n".join(lines), fill=_INK, anchor="mm", align="center", font_size=14
    )
    return image


def _tiles(path: Path, artifact: str) -> Sequence[np.ndarray]:
    """The (S, S, C) images of an artifact: one, N of them, or a bundle's two rows of four."""
    pixels = map_npy(path)
    if artifact in BUNDLES:
        side = pixels.shape[0] // 2
        corners = [(top, c * side) for top in (0, side) for c in range(len(SIDES))]
        return [pixels[top : top + side, left : left + side] for top, left in corners]
    return list(pixels) if pixels.ndim == 4 else [pixels]
