"""Pictures that the data is made with: renders with alpha, and photographs of materials.

    python -m training.pictures --renders lobehub-fluent-emoji-3d-1.1.0.tgz \\
        --materials robosuite-1.5.2-py3-none-any.whl --out pictures.zip

packs what is used of two packages (sources and licences: docs/sketch-network.md) and of
skimage.data into one zip: renders/NAME.webp as they are, materials/NAME.jpg of 384 pixels.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch import Tensor

RENDER = 256
MATERIAL = 384
OUTLINE = 96
SKIN_TONES = ("1f3fb", "1f3fc", "1f3fd", "1f3fe", "1f3ff")
FLAGS = range(0x1F1E6, 0x1F200)
HELD_BACK = 10
"""One render of so many is held back."""
PHOTOGRAPHS = (
    "brick",
    "grass",
    "gravel",
    "hubble_deep_field",
    "ihc",
    "moon",
    "retina",
    "page",
    "coins",
)
"""Of skimage.data; those that show one subject are kept for looking at, and never trained on."""
GOODS = ("lemon", "can", "soda", "cereal", "bread", "glass")
"""Materials that are labels of goods rather than materials."""


@dataclass
class Pictures:
    """renders (N, 4, 256, 256) uint8 with straight alpha; materials (M, 3, 384, 384) uint8."""

    renders: Tensor
    materials: Tensor

    def outlines(self) -> Tensor:
        """(N, 96, 96) float32: signed distances to the renders' outlines, inside negative, over the
        square, in its half sides."""
        alpha = torch.nn.functional.interpolate(
            self.renders[:, 3:].float(), size=OUTLINE, mode="area"
        )
        inside = alpha[:, 0].numpy() > 127.0
        made = [distance_transform_edt(~one) - distance_transform_edt(one) for one in inside]
        return torch.from_numpy(np.stack(made).astype(np.float32) * (2.0 / OUTLINE))


def is_held_back(name: str) -> bool:
    """By the name of a render: one of ten, the same ones on every machine."""
    return hashlib.sha256(name.encode()).digest()[0] % HELD_BACK == 0


def is_used(name: str) -> bool:
    """Repetitions in other skin tones and flags of countries are left out."""
    points = name.split("-")
    if any(point in SKIN_TONES for point in points):
        return False
    return not any(int(point, 16) in FLAGS for point in points)


def load(path: Path, held_back: bool = False) -> Pictures:
    """The renders that are trained on or those that are `held_back`, and all materials."""
    with zipfile.ZipFile(path) as packed:
        names = sorted(packed.namelist())
        renders = [n for n in names if n.startswith("renders/")]
        renders = [n for n in renders if is_held_back(Path(n).stem) == held_back]
        pages = {
            n: packed.read(n) for n in renders + [n for n in names if n.startswith("materials/")]
        }
    with ThreadPoolExecutor() as threads:
        pixels = dict(zip(pages, threads.map(_decode, pages.values()), strict=True))
    materials = [array for name, array in pixels.items() if name.startswith("materials/")]
    shapes = [pixels[name] for name in renders]
    return Pictures(
        torch.from_numpy(np.stack(shapes)).permute(0, 3, 1, 2).contiguous(),
        torch.from_numpy(np.stack(materials)).permute(0, 3, 1, 2).contiguous(),
    )


def _decode(page: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(page)) as image:
        if image.format == "WEBP":
            return np.asarray(image.convert("RGBA").resize((RENDER, RENDER)))
        return np.asarray(image.convert("RGB").resize((MATERIAL, MATERIAL)))


def pack(renders: Path, materials: Path, out: Path) -> None:
    from skimage import data

    with zipfile.ZipFile(out, "w") as packed:
        with tarfile.open(renders) as archive:
            for member in archive.getmembers():
                path = Path(member.name)
                if path.suffix != ".webp" or not is_used(path.stem):
                    continue
                stream = archive.extractfile(member)
                assert stream is not None
                packed.writestr(f"renders/{path.name}", stream.read())
        with zipfile.ZipFile(materials) as wheel:
            for name in wheel.namelist():
                path = Path(name)
                if path.parent.name != "textures" or path.stem in GOODS:
                    continue
                with Image.open(io.BytesIO(wheel.read(name))) as image:
                    packed.writestr(f"materials/{path.stem}.jpg", _jpeg(image))
        for name in PHOTOGRAPHS:
            array = getattr(data, name)() if name != "ihc" else data.immunohistochemistry()
            packed.writestr(f"materials/{name}.jpg", _jpeg(Image.fromarray(array)))


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
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    pack(given.renders, given.materials, given.out)


if __name__ == "__main__":
    main()
