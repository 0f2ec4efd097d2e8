"""The script behind examples/*.png, at a small size."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def draw(folder: Path, *names: str) -> None:
    command = [sys.executable, str(EXAMPLES / "make_images.py"), "--out", str(folder)]
    subprocess.run([*command, "--size", "48", *names], check=True)


def test_drawing_again_gives_the_same_bytes(tmp_path: Path) -> None:
    for run in ("a", "b"):
        (tmp_path / run).mkdir()
        draw(tmp_path / run, "robot")
    first, again = (tmp_path / run / "robot.png" for run in ("a", "b"))
    assert first.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("name", ["robot", "mug", "mushroom"])
def test_the_committed_pictures_are_what_the_script_draws(tmp_path: Path, name: str) -> None:
    draw(tmp_path, name)
    with (
        Image.open(tmp_path / f"{name}.png") as drawn,
        Image.open(EXAMPLES / f"{name}.png") as kept,
    ):
        assert kept.size == (768, 768)
        assert kept.mode == drawn.mode == ("RGBA" if name == "robot" else "RGB")
        small = np.asarray(kept.resize(drawn.size, Image.Resampling.BOX)).astype(int)
        # 0.7 to 2.5, as lines are coarser at this size; another picture is off by over 40.
        assert np.abs(small - np.asarray(drawn)).mean() < 6.0
    assert (EXAMPLES / f"{name}.png").stat().st_size <= 400 * 1024
