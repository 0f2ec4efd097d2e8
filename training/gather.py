"""Packs the pictures that the data is made with into one zip, once.

    python -m training.gather --renders lobehub-fluent-emoji-3d-1.1.0.tgz \\
        --materials robosuite-1.5.2-py3-none-any.whl --panoramas pmndrs-assets-1.7.0.tgz \\
        --icons iconify-json-noto-1.2.9.tgz iconify-json-fluent-emoji-flat-1.2.6.tgz \\
        --clips openclipart/usr/share/openclipart/png --out pictures.zip

Of packages (sources and licences: docs/sketch-network.md) and of skimage.data:
renders/NAME.webp as they are, drawings/NAME.webp of 256 pixels, materials/NAME.jpg and
photographs/NAME.jpg of 384. Needs resvg-py and OpenEXR, which nothing else does.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import binary_fill_holes, label

from training.pictures import MATERIAL, RENDER, is_used

MATERIALS = (
    "brick", "grass", "gravel", "hubble_deep_field", "immunohistochemistry", "moon", "retina",
    "page", "coins",
)  # fmt: skip
"""Of skimage.data; those that show one subject are kept for looking at, and never trained on."""
GOODS = ("lemon", "can", "soda", "cereal", "bread", "glass")
"""Materials that are labels of goods rather than materials."""
ICONS_LEFT_OUT = re.compile(
    r"skin-tone|-(light|medium-light|medium|medium-dark|dark)$"
    r"|^flag|button|keycap|arrow|-sign$|square|input|clock|^\d"
)
"""Repetitions in other skin tones, flags, and what is a sign rather than a thing."""
CLIPS = (
    "animals", "buildings", "containers", "education/books", "electronics", "food", "plants",
    "office", "people", "recreation/toys", "recreation/music", "recreation/party",
    "recreation/sports", "science", "tools", "transportation/boating", "transportation/vehicles",
    "unsorted", "computer/hardware",
)  # fmt: skip
CLIPS_LEFT_OUT = ("people/stickmen", "tools/toys")
LARGEST = 4_000_000
"""Pixels of a clip: some are posters."""


def renders(archive: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(archive) as packed:
        for member in packed.getmembers():
            path = Path(member.name)
            if path.suffix == ".webp" and is_used(path.stem):
                stream = packed.extractfile(member)
                assert stream is not None
                yield f"renders/{path.name}", stream.read()


def icons(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Every icon of an Iconify set that shows a thing, drawn at 256 pixels."""
    import resvg_py

    with tarfile.open(archive) as packed:
        stream = packed.extractfile("package/icons.json")
        assert stream is not None
        known = json.load(stream)
    for name, icon in known["icons"].items():
        if ICONS_LEFT_OUT.search(name) or icon.get("hidden"):
            continue
        wide, high = icon.get("width", known["width"]), icon.get("height", known["height"])
        body = (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 {wide} {high}">{icon["body"]}</svg>'
        )
        page = resvg_py.svg_to_bytes(svg_string=body, width=RENDER)
        with Image.open(io.BytesIO(bytes(page))) as image:
            yield from _drawing(f"{known['prefix']}-{name}", image)


def clips(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Drawings of things with transparent surroundings; no cards, signs, flags and buttons."""
    for path in sorted(folder.rglob("*.png")):
        place = path.relative_to(folder).as_posix()
        if not place.startswith(CLIPS) or place.startswith(CLIPS_LEFT_OUT):
            continue
        with Image.open(path) as image:
            if max(image.size) >= 64 and image.width * image.height <= LARGEST:
                yield from _drawing("clip-" + place.removesuffix(".png").replace("/", "-"), image)


def _drawing(name: str, image: Image.Image) -> Iterator[tuple[str, bytes]]:
    """The picture, if its alpha is that of one solid thing: in one piece, without see-through
    insides, not the whole rectangle."""
    picture = image.convert("RGBA")
    box = picture.getchannel("A").point(lambda v: 255 * (v > 20)).getbbox()
    if box is None:
        return
    cut = picture.crop(box)
    cut.thumbnail((RENDER, RENDER), Image.Resampling.LANCZOS)
    inside = np.asarray(cut.getchannel("A")) > 127
    filled, (pieces, count) = binary_fill_holes(inside), label(inside)
    if inside.sum() < 0.03 * RENDER**2 or inside.mean() > 0.97 or min(cut.size) < 24:
        return
    largest = np.bincount(pieces.ravel())[1:].max() if count else 0
    if largest < 0.85 * inside.sum() or inside.sum() < 0.9 * filled.sum():
        return
    square = Image.new("RGBA", (RENDER, RENDER))
    square.paste(cut, ((RENDER - cut.width) // 2, (RENDER - cut.height) // 2))
    page = io.BytesIO()
    square.save(page, "WEBP", quality=82, method=4)
    yield f"drawings/{name}.webp", page.getvalue()


def materials(wheel: Path) -> Iterator[tuple[str, bytes]]:
    from skimage import data

    with zipfile.ZipFile(wheel) as packed:
        for name in packed.namelist():
            path = Path(name)
            if path.parent.name == "textures" and path.stem not in GOODS:
                with Image.open(io.BytesIO(packed.read(name))) as image:
                    yield f"materials/{path.stem}.jpg", _jpeg(image)
    for name in MATERIALS:
        yield f"materials/{name}.jpg", _jpeg(Image.fromarray(getattr(data, name)()))


def photographs(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Four squares of each panorama, exposed for its median, without zenith and nadir."""
    import OpenEXR

    with tarfile.open(archive) as packed:
        for member in packed.getmembers():
            if not member.name.endswith(".exr.js"):
                continue
            stream = packed.extractfile(member)
            assert stream is not None
            found = re.search(rb"base64,([A-Za-z0-9+/=]+)", stream.read())
            assert found is not None
            raw = Path(member.name).name.removesuffix(".exr.js")
            file = OpenEXR.File(io.BytesIO(base64.b64decode(found.group(1))))
            light = np.asarray(file.channels()["RGB"].pixels, np.float32)
            light *= 0.35 / max(float(np.median(light.mean(axis=2))), 1e-4)
            look = np.clip(light / (1.0 + 0.6 * light), 0.0, 1.0) ** (1.0 / 2.2)
            image = Image.fromarray((look * 255.0).astype(np.uint8))
            top, side = image.height * 5 // 32, image.height * 3 // 4
            for number in range(4):
                left = number * (image.width - side) // 3
                part = image.crop((left, top, left + side, top + side))
                yield f"photographs/{raw}-{number}.jpg", _jpeg(part)


def _jpeg(image: Image.Image) -> bytes:
    """The middle square, scaled."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.convert("RGB").crop((left, top, left + side, top + side))
    page = io.BytesIO()
    square.resize((MATERIAL, MATERIAL), Image.Resampling.LANCZOS).save(page, "JPEG", quality=90)
    return page.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--renders", type=Path, required=True)
    parser.add_argument("--materials", type=Path, required=True)
    parser.add_argument("--panoramas", type=Path, required=True)
    parser.add_argument("--icons", type=Path, nargs="+", required=True)
    parser.add_argument("--clips", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    sources = [renders(given.renders), materials(given.materials), photographs(given.panoramas)]
    sources += [icons(archive) for archive in given.icons]
    counts: dict[str, int] = {}
    with zipfile.ZipFile(given.out, "w") as packed:
        for source in (*sources, clips(given.clips)):
            for name, page in source:
                packed.writestr(name, page)
                kind = name.split("/")[0]
                counts[kind] = counts.get(kind, 0) + 1
    print(counts)


if __name__ == "__main__":
    main()
