"""result/preview.png: the picture, its views and normals, and the final mesh, on one sheet."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from orchestrator.artifacts import RunDirectory

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

SIDES = ("front", "left", "back", "right")
_TILE = 256
_MARGIN = 22
_INK = (60, 60, 60)
_MAX_INPUT_PIXELS = 40_000_000
"""A larger picture is not decoded again just for its thumbnail."""


def preview_sheet(run: RunDirectory, written: Mapping[str, str]) -> bytes:
    """A PNG, or b"" when there is nothing to show.

    written: artifact name -> the finished node that wrote it.
    """
    from PIL import Image, ImageDraw

    column = _first_column(run, written)
    rows = _rows(run, written)
    if not rows and len(column) < 2:
        return b""
    height = max(len(rows), len(column)) * (_TILE + _MARGIN)
    sheet = Image.new("RGB", ((1 + len(SIDES)) * _TILE, height), "white")
    draw = ImageDraw.Draw(sheet)

    def put(image: Image.Image, row: int, col: int, label: str) -> None:
        left, top = col * _TILE, row * (_TILE + _MARGIN)
        sheet.paste(image, (left + (_TILE - image.width) // 2, top + _MARGIN))
        draw.text((left + 6, top + 5), label, fill=_INK)

    for index, (label, image) in enumerate(column):
        put(image, index, 0, label)
    for index, (label, tiles) in enumerate(rows):
        for side, tile in enumerate(tiles):
            put(tile, index, 1 + side, f"{label}: {SIDES[side]}")
    buffer = io.BytesIO()
    sheet.save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def _first_column(run: RunDirectory, written: Mapping[str, str]) -> list[tuple[str, Image.Image]]:
    """The user's picture, and what the stages work on."""
    from PIL import Image

    found = []
    # preprocess has its own, fuller decoder; a thumbnail is not worth an error, and Pillow's
    # plugins have many of them for a damaged file or EXIF block.
    with contextlib.suppress(Exception), Image.open(run.input_path) as picture:
        if picture.width * picture.height <= _MAX_INPUT_PIXELS:
            found.append(("input", _input_thumbnail(picture)))
    if "image" in written:
        found.append(("object", _thumbnail(_load(run, written, "image"))))
    return found


def _input_thumbnail(picture: Image.Image) -> Image.Image:
    """The user's picture upright, on white, at most a tile wide and high."""
    from PIL import Image, ImageOps

    picture.draft("RGB", (_TILE, _TILE))
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I") or upright.mode == "F":
        upright = _eight_bit(upright)
    rgba = upright.convert("RGBA")
    rgba.thumbnail((_TILE, _TILE))
    flat = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(flat, rgba).convert("RGB")


def _eight_bit(wide: Image.Image) -> Image.Image:
    """16-bit, 32-bit or float grey with its white at 255; Pillow's own conversion clips there."""
    import numpy as np
    from PIL import Image

    values = np.asarray(wide, dtype=np.float32)
    # Only 16-bit files say what white is.
    white = 65535.0 if wide.mode.startswith("I;16") else max(float(values.max()), 1.0)
    return Image.fromarray((values.clip(0.0, white) * (255.0 / white)).astype(np.uint8))


def _rows(run: RunDirectory, written: Mapping[str, str]) -> list[tuple[str, Sequence[Image.Image]]]:
    """(label, one image a side) of the views, the normals and the mesh."""
    rows: list[tuple[str, Sequence[Image.Image]]] = []
    bundle = next((name for name in ("bundle", "reference_bundle") if name in written), None)
    if bundle is not None:
        pixels = _load(run, written, bundle)
        side = pixels.shape[0] // 2
        for label, row in (("views", 0), ("normals", 1)):
            band = pixels[row * side : (row + 1) * side]
            tiles = [band[:, c * side : (c + 1) * side] for c in range(len(SIDES))]
            rows.append((label, [_thumbnail(tile) for tile in tiles]))
    elif "views" in written:
        rows.append(("views", [_thumbnail(tile) for tile in _load(run, written, "views")]))
    if "renders" in written:
        rows.append(("mesh", [_thumbnail(tile) for tile in _load(run, written, "renders")]))
    return rows


def _load(run: RunDirectory, written: Mapping[str, str], artifact: str) -> np.ndarray:
    import numpy as np

    path = run.artifact_paths(written[artifact], artifact)[0]
    array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _thumbnail(pixels: np.ndarray) -> Image.Image:
    """An (S, S, 3) image in uint8 or in float32 [0, 1], small."""
    import numpy as np
    from PIL import Image

    if pixels.dtype.kind == "f":
        pixels = (pixels * 255.0 + 0.5).astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return image.resize((_TILE, _TILE), Image.Resampling.BOX, reducing_gap=2.0)
