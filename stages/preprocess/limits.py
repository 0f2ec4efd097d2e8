"""What a picture may cost: checked from its header, before anything of it is decoded.

Reading a picture takes a number of bytes a pixel that depends on the format, and time that grows
with its pixels and with the pieces that it is stored in. Both are bounded here, so that no file,
whatever it claims to be, takes more than `MEMORY` or hangs a decoder.
"""

from __future__ import annotations

import io
import math

from PIL import Image, TiffImagePlugin

from stages.contract import BadInput

MIN_SIDE = 16

MEMORY = 1 << 30
"""Bytes that decoding may fill, the file itself left out. The whole stage stays below 1.5 GiB."""

WORK_PIXELS = 24_000_000
"""A picture with more is read scaled down by a whole number: the result is at most 4096 wide."""

BYTES_PER_PIXEL = {
    "png": 4,
    "gif": 8,
    "bmp": 4,
    "tiff": 8,  # a strip may be the whole picture, which libtiff decodes beside Pillow's own copy
    "webp": 8,
    "avif": 12,
    "heic": 12,
    "jpeg2000": 20,  # OpenJPEG holds 32 bits a channel
    "jpeg": 4,
}
"""What decoding fills at most for each pixel, by the name of `stages.contract.filetypes`."""

PROGRESSIVE = 6
"""Bytes a pixel more for a progressive JPEG: 16 bits a coefficient, which no draft mode saves."""

MAX_TIFF_PIECES = 65_536
"""Strips or tiles. One a row is usual; millions of tiny ones take minutes to list."""

_SIDES = 1 << 20


class SizeError(BadInput):
    """A picture has too many pixels, or too few to show anything."""


def check_size(size: tuple[int, int], max_pixels: int, what: str = "the picture") -> None:
    """Raise `SizeError` for a picture of too many pixels, or of too few to show anything."""
    width, height = size
    if width * height > max_pixels or max(size) > _SIDES:
        raise SizeError(
            f"{what} has {width:,} x {height:,} pixels, more than the limit of {max_pixels:,}",
            "Scale it down. --set preprocess.max_pixels=NUMBER raises the limit for what can be "
            f"decoded within {MEMORY / 2**30:.0f} GiB.",
        )
    if min(size) < MIN_SIDE:
        raise SizeError(
            f"{what} has {width} x {height} pixels, at least {MIN_SIDE} a side are needed",
            "Use a larger picture; about 512 pixels across the object is good.",
        )


def plan_reading(image: Image.Image, kind: str) -> int:
    """The whole number by which an opened picture is to be scaled down, 1 for not at all.

    A JPEG's decoder is told to do so itself (draft mode). Raises `BadInput` for a picture that
    cannot be decoded within `MEMORY`.
    """
    pixels = image.width * image.height
    reduction = max(1, math.ceil(math.sqrt(pixels / WORK_PIXELS)))
    cost = pixels * BYTES_PER_PIXEL[kind]
    if kind == "jpeg" and reduction > 1:
        whole = image.size
        image.draft(None, (math.ceil(whole[0] / reduction), math.ceil(whole[1] / reduction)))
        decoded = image.width * image.height
        cost = decoded * BYTES_PER_PIXEL[kind]
        if image.info.get("progressive"):
            cost += pixels * PROGRESSIVE
        reduction = max(1, math.ceil(math.sqrt(decoded / WORK_PIXELS)))
    if cost > MEMORY:
        raise BadInput(
            f"the picture has {pixels:,} pixels; decoding them would take {cost / 2**30:.1f} GiB, "
            f"and {MEMORY / 2**30:.1f} GiB is the limit",
            "Scale it down, or save it as a JPEG, which can be read scaled down.",
        )
    return reduction


def check_tiff(data: bytes) -> None:
    """Raise `BadInput` for a TIFF file whose first picture is stored in too many pieces, which
    Pillow would list one by one before it could be asked for anything.

    Raises what Pillow raises for a damaged directory.
    """
    stream = io.BytesIO(data)
    header = stream.read(8)
    if header[2] == 43 or header[3] == 43:  # BigTIFF has a header of 16 bytes
        header += stream.read(8)
    directory = TiffImagePlugin.ImageFileDirectory_v2(header)
    stream.seek(directory.next)
    directory.load(stream)
    offsets = (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS)
    # The raw values: unpacking millions of them is what must not happen.
    pieces = max(len(directory._tagdata.get(tag, b"")) // 4 for tag in offsets)
    if pieces > MAX_TIFF_PIECES:
        raise BadInput(
            f"the TIFF is stored in {pieces:,} pieces, more than the limit of {MAX_TIFF_PIECES:,}",
            "Open it in an image viewer and save it again as PNG.",
        )
    width, height = (int(directory.get(tag, 0)) for tag in (256, 257))
    tile_width, tile_height = (int(directory.get(tag, 0)) for tag in (322, 323))
    if tile_width and tile_height:
        needed = math.ceil(width / tile_width) * math.ceil(height / tile_height)
        if needed > MAX_TIFF_PIECES or tile_width * tile_height * 8 > MEMORY:
            raise BadInput(
                f"the TIFF's tiles of {tile_width} x {tile_height} pixels do not fit a picture of "
                f"{width} x {height}",
                "Open it in an image viewer and save it again as PNG.",
            )
