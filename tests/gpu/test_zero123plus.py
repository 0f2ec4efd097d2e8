"""Stage zero123plus on a card: what stays there, and how far half precision is from the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from devtools.tiny.zero123plus import build_flexgen, build_zero123plus
from stages.contract import Context
from stages.multiview.zero123plus.params import Zero123PlusParams
from stages.multiview.zero123plus.stage import Zero123PlusStage

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

PICTURE = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_zero123plus(tmp_path)
    build_flexgen(tmp_path)
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path))


def views(device: str, dtype: str, keep: bool = False) -> np.ndarray:
    stage = Zero123PlusStage(Zero123PlusParams(steps=3, view_size=64, keep_on_device=keep))
    stage.load(Context(device=device, dtype=dtype))
    result: np.ndarray = stage.run({"image": PICTURE}, Context(device=device, dtype=dtype))["views"]
    return result


def test_nothing_of_the_stage_stays_on_the_card_between_pictures():
    stage = Zero123PlusStage(Zero123PlusParams(steps=2, view_size=64))
    context = Context(device="cuda:0", dtype="float16")
    stage.load(context)
    stage.run({"image": PICTURE}, context)
    between = torch.cuda.memory_allocated()  # the libraries' own workspaces
    stage.close()
    assert torch.cuda.memory_allocated() == between


def test_the_card_gives_the_same_pixels_every_time_wherever_the_networks_wait():
    first = views("cuda:0", "float16")
    np.testing.assert_array_equal(views("cuda:0", "float16"), first)
    np.testing.assert_array_equal(views("cuda:0", "float16", keep=True), first)


def test_half_precision_on_the_card_is_near_float32_on_the_cpu():
    exact = views("cpu", "float32").astype(int)
    assert np.abs(views("cuda:0", "float16") - exact).mean() < 5.0
