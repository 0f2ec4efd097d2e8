"""ControlNet's pictures against the reference (tests/golden/controlnet_cond.npz), and resizing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.contract import BadInput
from stages.flux.controls import MODE_NUMBER, control_image, resize_bundle
from stages.flux.denoise import Control
from stages.flux.params import ControlParams
from stages.geometry.bundle import join, split


@pytest.fixture(scope="module")
def golden() -> Mapping[str, np.ndarray]:
    with np.load(Path(__file__).resolve().parents[2] / "golden" / "controlnet_cond.npz") as data:
        return dict(data)


@pytest.mark.parametrize(
    ("name", "settings", "tolerance"),
    [
        ("tile_down1", {"mode": "tile"}, 0),
        ("tile_default4", {"mode": "tile", "down_scale": 4}, 1),
        ("tile_default4", {"mode": "lq"}, 1),
        ("lq_down2", {"mode": "lq", "down_scale": 2}, 1),
        ("blur_default", {"mode": "blur"}, 1),
        ("blur_k11_s2", {"mode": "blur", "kernel_size": 11}, 1),
    ],
)
def test_control_images_are_the_references(
    golden: Mapping[str, np.ndarray], name: str, settings: dict[str, Any], tolerance: int
) -> None:
    image = golden["image"].transpose(1, 2, 0)
    found = control_image(image, ControlParams(**settings))
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - golden[name].astype(int)).max() <= tolerance


def test_blurred_bytes_are_the_references_but_for_rounding_of_halves(
    golden: Mapping[str, np.ndarray],
) -> None:
    found = control_image(golden["image"].transpose(1, 2, 0), ControlParams(mode="blur"))
    assert (found == golden["blur_default"]).mean() > 0.99


def test_gray_keeps_the_luminance_in_three_equal_channels() -> None:
    image = np.zeros((8, 16, 3), np.float32)
    image[:, 8:] = (1.0, 0.5, 0.0)
    found = control_image(image, ControlParams(mode="gray"))
    assert (found[..., 0] == found[..., 1]).all()
    assert (found[..., 0] == found[..., 2]).all()
    assert found[0, 12, 0] == pytest.approx(255 * (0.299 + 0.587 * 0.5), abs=1)


def test_canny_draws_the_outline_only() -> None:
    image = np.ones((64, 128, 3), np.float32)
    image[20:40, 30:90] = 0.2
    found = control_image(image, ControlParams(mode="canny"))[..., 0]
    assert set(np.unique(found)) == {0, 255}
    rows, columns = np.nonzero(found)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == pytest.approx(
        (20, 40, 30, 90), abs=2
    )
    assert found[25:35, 35:85].max() == 0


def test_the_modes_have_the_numbers_of_the_union_net() -> None:
    assert [MODE_NUMBER[mode] for mode in ("canny", "tile", "depth", "blur")] == [0, 1, 2, 3]
    assert [MODE_NUMBER[mode] for mode in ("pose", "gray", "lq")] == [4, 5, 6]


@pytest.mark.parametrize(("end", "last"), [(0.65, 23), (0.3, 10), (0.2, 6), (1.0, 36)])
def test_a_control_acts_in_the_references_evaluations(end: float, last: int) -> None:
    control = Control(None, 1, 0.6, 0.0, end)  # type: ignore[arg-type]
    assert [i for i in range(37) if control.acts(i, 37)] == list(range(last + 1))


def test_a_late_start_leaves_the_first_evaluations_alone() -> None:
    control = Control(None, 1, 0.6, 0.5, 1.0)  # type: ignore[arg-type]
    assert [i for i in range(10) if control.acts(i, 10)] == [5, 6, 7, 8, 9]


def test_resizing_keeps_the_tiles_apart() -> None:
    colours = np.linspace(0.1, 0.9, 8, dtype=np.float32)
    tiles = np.broadcast_to(colours[:, None, None, None], (8, 64, 64, 3))
    found = resize_bundle(join(tiles[:4], tiles[4:]), 80)
    assert found.shape == (80, 160, 3)
    for tile, colour in zip(np.concatenate(split(found)), colours, strict=True):
        np.testing.assert_allclose(tile, colour, atol=1e-6)


def test_the_right_size_is_left_alone() -> None:
    bundle = np.random.default_rng(1).random((64, 128, 3), np.float32)
    np.testing.assert_array_equal(resize_bundle(bundle, 64), bundle)


def test_resizing_stays_in_range() -> None:
    bundle = (np.random.default_rng(1).random((64, 128, 3)) > 0.5).astype(np.float32)
    found = resize_bundle(bundle, 96)
    assert 0.0 <= found.min() <= found.max() <= 1.0


def test_what_is_no_bundle_is_bad_input() -> None:
    with pytest.raises(BadInput, match="2 S, 4 S"):
        resize_bundle(np.zeros((64, 100, 3), np.float32), 64)
