"""Bytes of a picture file -> 8-bit sRGB with alpha, within limits that are checked before decoding.

Whatever a decoder trips over is the picture's fault, so it ends as `BadInput`: Pillow's plugins
raise OSError, SyntaxError, ValueError, struct.error and more for damaged files.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from stages.contract import BadInput
from stages.contract.filetypes import HEAD, FileType, identify
from stages.preprocess.colours import bits_per_sample, reduced, to_srgba
from stages.preprocess.limits import check_size, check_tiff, plan_reading

DECODERS = {
    "png": ("PNG",),
    "jpeg": ("JPEG", "MPO"),
    "webp": ("WEBP",),
    "bmp": ("BMP",),
    "tiff": ("TIFF",),
    "gif": ("GIF",),
    "avif": ("AVIF",),
    "jpeg2000": ("JPEG2000",),
    "heic": ("HEIF",),
}
"""The only decoders that see a user's bytes, by what the first of those say that they are."""

MAX_FRAMES = 20
"""Frames that are looked at: whether there are several, and for one that is not blank."""

_ACCEPTED = "Use a PNG, JPEG, WebP, AVIF, HEIC, JPEG 2000, BMP, TIFF or GIF file."
_DAMAGED = "Open it in an image viewer and save it again as PNG."


@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    rgba    (H, W, 4) uint8, sRGB, straight (not premultiplied) alpha, upright
    format  Pillow's name of the file format
    frames  number of frames or pages in the file, `MAX_FRAMES` for so many or more
    frame   which of them `rgba` is, the first being 1
    size    width and height in the file, before a large picture was scaled down
    """

    rgba: np.ndarray
    format: str
    frames: int
    frame: int
    size: tuple[int, int]

    @property
    def note(self) -> str:
        """What was not taken as it is in the file, for people; "" for nothing."""
        told = []
        if self.frames > 1:
            ordinal = "first" if self.frame == 1 else f"number {self.frame}"
            more = " or more" if self.frames == MAX_FRAMES else ""
            told.append(f"{ordinal} of {self.frames}{more} frames")
        if self.rgba.shape[0] * self.rgba.shape[1] < 0.9 * self.size[0] * self.size[1]:
            told.append("read scaled down")
        return ", ".join(told)


def decode(data: bytes, *, max_bytes: int, max_pixels: int, what: str = "the picture") -> Picture:
    """Decode a picture file: its first frame, or the first one that is not blank.

    what: how an error about its size calls it. Raises `BadInput` when the file is empty, no
    picture, damaged, too large or too small.
    """
    if not data:
        raise BadInput("the input file is empty", _ACCEPTED)
    if len(data) > max_bytes:
        raise BadInput(
            f"the input file has {len(data)} bytes, more than the limit of {max_bytes}",
            "Use a smaller file, or raise the limit: --set preprocess.max_bytes=NUMBER.",
        )
    kind = _kind(data)
    with _decoder_errors_are_bad_input(kind):
        if kind.name == "tiff":
            check_tiff(data)
        with Image.open(io.BytesIO(data), formats=DECODERS[kind.name]) as image:
            check_size(image.size, max_pixels, what)
            size = image.size
            reduction = plan_reading(image, kind.name)
            rgba = _frame(image, reduction)
            frame, frames = 1, _count_frames(image, kind.name)
            if frames > 1 and kind.name != "tiff" and _is_blank(rgba):
                frame, rgba = _first_drawn(image, frames, reduction, rgba)
            return Picture(np.array(rgba), image.format or "", frames, frame, size)


def _kind(data: bytes) -> FileType:
    """What the file is, if it may be decoded. Raises `BadInput`."""
    kind = identify(data[:HEAD])
    if kind is None:
        raise BadInput("the input file is not a picture that can be read", _ACCEPTED)
    if not kind.picture:
        remedy = kind.remedy[0].upper() + kind.remedy[1:]
        raise BadInput(
            f"not a picture that can be read: the input file is {kind.title}", f"{remedy}."
        )
    if kind.name == "heic":
        try:
            from pillow_heif import register_heif_opener
        except ImportError as error:
            raise BadInput(
                "the input file is a HEIC picture, and the package pillow-heif, which reads those, "
                "is not installed",
                "Install it (pip install pillow-heif), or save the picture as JPEG.",
            ) from error
        register_heif_opener()
    return kind


@contextmanager
def _decoder_errors_are_bad_input(kind: FileType) -> Iterator[None]:
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None  # the limits of `stages.preprocess.limits` hold
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (BadInput, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BadInput(
            f"the input file begins like {kind.title}, but is damaged or of a kind that cannot be "
            "read",
            _DAMAGED,
        ) from error
    except Exception as error:
        raise BadInput(f"the picture is damaged or incomplete: {error}", _DAMAGED) from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _frame(image: Image.Image, reduction: int) -> Image.Image:
    """The present frame, decoded."""
    image.load()
    exif = image.getexif() if reduction > 1 else None
    smaller = reduced(image, reduction)
    if exif:
        smaller.info["exif"] = exif.tobytes()
    return to_srgba(_upright(smaller), bits_per_sample(image))


def _count_frames(image: Image.Image, kind: str) -> int:
    """Frames in the file, at most `MAX_FRAMES`.

    Pillow would go through the whole of a GIF or TIFF to count them.
    """
    if kind not in ("gif", "tiff"):
        return min(int(getattr(image, "n_frames", 1)), MAX_FRAMES)
    for count in range(1, MAX_FRAMES):
        try:
            image.seek(count)
        except Exception:  # noqa: BLE001 (the end, or damage behind what is needed)
            return count
    return MAX_FRAMES


def _first_drawn(
    image: Image.Image, frames: int, reduction: int, first: Image.Image
) -> tuple[int, Image.Image]:
    """Number and pixels of the first frame that shows something; the first of all without one."""
    for number in range(2, frames + 1):
        try:
            image.seek(number - 1)
            rgba = _frame(image, reduction)
        except Exception:  # noqa: BLE001 (damage behind the first frame)
            break
        if not _is_blank(rgba):
            return number, rgba
    return 1, first


def _is_blank(rgba: Image.Image) -> bool:
    """Whether there is nothing to see: no pixel that is not transparent, or one colour alone."""
    low, high = zip(*rgba.getextrema(), strict=True)
    return high[3] == 0 or (low == high)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # noqa: BLE001 (a damaged EXIF block says nothing about the pixels)
        return image
