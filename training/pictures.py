"""Pictures that the data is made with: renders and drawings with alpha, photographs of materials.

`training.gather` packs them; sources and licences: docs/sketch-network.md.
"""

from __future__ import annotations

import hashlib
import io
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
"""One render or drawing of so many is held back."""


@dataclass
class Pictures:
    """renders (N, 4, 256, 256) uint8 with straight alpha; drawings (D, 4, 256, 256) likewise;
    materials (M, 3, 384, 384) uint8; photographs (P, 3, 384, 384) uint8, for grounds alone."""

    renders: Tensor
    drawings: Tensor
    materials: Tensor
    photographs: Tensor

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
    """The renders and drawings that are trained on or those that are `held_back`, and all
    materials and photographs."""
    with zipfile.ZipFile(path) as packed:
        names = sorted(packed.namelist())
        things = ("renders/", "drawings/")
        wanted = [
            n for n in names if not n.startswith(things) or is_held_back(Path(n).stem) == held_back
        ]
        pages = {name: packed.read(name) for name in wanted}
    with ThreadPoolExecutor() as threads:
        pixels = dict(zip(pages, threads.map(_decode, pages.values()), strict=True))

    def stack(folder: str) -> Tensor:
        chosen = [array for name, array in pixels.items() if name.startswith(folder)]
        return torch.from_numpy(np.stack(chosen)).permute(0, 3, 1, 2).contiguous()

    return Pictures(
        stack("renders/"), stack("drawings/"), stack("materials/"), stack("photographs/")
    )


def _decode(page: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(page)) as image:
        if image.format == "WEBP":
            return np.asarray(image.convert("RGBA").resize((RENDER, RENDER)))
        return np.asarray(image.convert("RGB").resize((MATERIAL, MATERIAL)))
