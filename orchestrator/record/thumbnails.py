"""Small pictures for people: of what was given and of what the stages made, on a grey ground.

White and black objects both stand out from that grey.
"""

from __future__ import annotations

import contextlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from stages.contract.filetypes import HEAD, identify

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

GROUND = 200
"""The ground's value in each channel, 0..255."""
_MOST_OBJECT, _LEAST_GROUND = 204, 230
"""Of a normal tile, the darkest channel at a pixel. A unit vector has one of (1 + sqrt(1/3)) / 2 =
0.79 = 201 at most; a white background, drawn by a network, is up to a tenth off white."""
_MOST_DECODED_BYTES = 256 << 20
"""A larger picture is not decoded again just for its thumbnail. 9000 x 9000 in RGB have 232 MiB;
of a JPEG only a fraction of the pixels is decoded."""


def on_ground(image: Image.Image, cover: Image.Image) -> Image.Image:
    """An object on white, RGB, on the grey ground instead.

    cover: L, of the same size: how much of a pixel is the object's, 255 = all
    """
    from PIL import Image, ImageChops

    darker = cover.point([(255 - GROUND) * (255 - value) // 255 for value in range(256)])
    return ImageChops.subtract(image, Image.merge("RGB", [darker] * 3))


def cover_of_normals(tile: Image.Image) -> Image.Image:
    """L: how much of each pixel of a normal tile, RGB on white, is the object's.

    A pixel at the outline is a mix of white and of the normal beside it, the darkest one near it.
    """
    import numpy as np
    from PIL import Image, ImageChops, ImageFilter

    red, green, blue = tile.split()
    dark = ImageChops.darker(ImageChops.darker(red, green), blue)
    low, lowest, highest = (
        np.asarray(one, np.float32)
        for one in (
            dark,
            dark.filter(ImageFilter.MinFilter(3)),
            dark.filter(ImageFilter.MaxFilter(3)),
        )
    )
    mixed = (255.0 - low) / np.maximum(255.0 - lowest, 1.0)
    share = np.where(highest < _LEAST_GROUND, 1.0, np.where(lowest > _MOST_OBJECT, 0.0, mixed))
    return Image.fromarray(np.rint(255.0 * share).astype(np.uint8))


def thumbnail(pixels: np.ndarray, side: int) -> Image.Image:
    """An (S, S, 1), (S, S, 3) or (S, S, 4) image in uint8 or in float32 [0, 1], side x side.

    The fourth channel is the coverage of a picture on white, which comes to stand on the ground.
    """
    import numpy as np
    from PIL import Image

    if pixels.dtype.kind == "f":
        pixels = (pixels * 255.0 + 0.5).astype(np.uint8)
    if pixels.shape[-1] == 4:
        return on_ground(thumbnail(pixels[..., :3], side), thumbnail(pixels[..., 3:], side))
    if pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return image.resize((side, side), Image.Resampling.BOX, reducing_gap=2.0)


def input_thumbnail(path: Path, side: int) -> Image.Image | None:
    """The user's picture upright, on the ground, at most `side` wide and high; None: there is none,
    or it is too large."""
    from PIL import Image

    # preprocess has its own, fuller decoder; a thumbnail is not worth an error, and Pillow's
    # plugins have many of them for a damaged file or EXIF block.
    with contextlib.suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit here holds
        _can_open_heic(path)
        with Image.open(path) as picture:
            picture.draft("RGB", (side, side))
            if picture.width * picture.height * len(picture.getbands()) <= _MOST_DECODED_BYTES:
                return _upright(picture, side)
    return None


def _can_open_heic(path: Path) -> None:
    """Have Pillow read HEIC, the format of phones, where this is such a file."""
    with path.open("rb") as stream:
        kind = identify(stream.read(HEAD))
    if kind is not None and kind.name == "heic":
        from pillow_heif import register_heif_opener

        register_heif_opener()


def _upright(picture: Image.Image, side: int) -> Image.Image:
    from PIL import Image, ImageOps

    if picture.mode in ("L", "RGB", "RGBA", "CMYK"):  # first, since each later step makes a copy
        picture.thumbnail((side, side))
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I") or upright.mode == "F":
        upright = _eight_bit(upright)
    rgba = upright.convert("RGBA")
    rgba.thumbnail((side, side))
    flat = Image.new("RGBA", rgba.size, (GROUND, GROUND, GROUND, 255))
    return Image.alpha_composite(flat, rgba).convert("RGB")


def _eight_bit(wide: Image.Image) -> Image.Image:
    """16-bit, 32-bit or float grey with its white at 255; Pillow's own conversion clips there."""
    import numpy as np
    from PIL import Image

    values = np.asarray(wide, dtype=np.float32)
    # Only 16-bit files say what white is.
    white = 65535.0 if wide.mode.startswith("I;16") else max(float(values.max()), 1.0)
    return Image.fromarray((values.clip(0.0, white) * (255.0 / white)).astype(np.uint8))
