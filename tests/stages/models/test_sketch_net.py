"""The sketch's network as it ships: its size, its file, and a ball that it has never seen."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stages.models.sketch_net import GRAPH, SIDE, WEIGHTS
from stages.models.sketch_net.bins import BINS, thickness_bins, told_thickness
from stages.models.sketch_net.network import SketchNet
from stages.models.sketch_net.predict import Network, Sketch, load_network, sketch

RADIUS = 0.7


@pytest.fixture(scope="module")
def net() -> Network:
    return load_network()


def ball() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A lit ball on white: the picture, its mask, its height in half sides."""
    steps = (np.arange(SIDE) + 0.5) * 2.0 / SIDE - 1.0
    x, y = np.meshgrid(steps, -steps)
    mask = x**2 + y**2 < RADIUS**2
    height = np.sqrt(np.maximum(RADIUS**2 - x**2 - y**2, 0.0))
    normal = np.stack([x, y, height], axis=-1) / RADIUS
    light = np.maximum(normal @ (np.array([0.3, 0.6, 0.74])), 0.0)
    shade = (0.35 + 0.6 * light)[..., None] * np.array([200.0, 70.0, 60.0])
    picture = np.where(mask[..., None], shade, 255.0)
    return np.rint(np.clip(picture, 0.0, 255.0)).astype(np.uint8), mask, height


@pytest.fixture(scope="module")
def told(net: Network) -> Sketch:
    return sketch(net, ball()[0])


def test_it_is_small() -> None:
    assert sum(p.numel() for p in SketchNet().parameters()) <= 8_000_000
    assert WEIGHTS.stat().st_size + GRAPH.stat().st_size <= 16_000_000


def test_the_graph_computes_what_the_module_does(net: Network) -> None:
    """training/export.py has to be run again when network.py changes."""
    module = SketchNet()
    module.load_state_dict(load_file(WEIGHTS))
    picture = ball()[0].astype(np.float32).transpose(2, 0, 1)[None] / np.float32(255.0)
    with torch.inference_mode():
        wanted = module.eval()(torch.from_numpy(picture))
    made = net(picture)
    assert set(made) == {field.name for field in fields(wanted)}
    for name, values in made.items():
        assert np.allclose(values, getattr(wanted, name).numpy(), atol=1e-3), name


def test_every_estimate_has_its_shape_and_range(told: Sketch) -> None:
    for values in (told.alpha, told.front, told.front_error, told.thickness, told.certainty):
        assert values.shape == (SIDE, SIDE)
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
    for normal in (told.normal, told.behind_normal):
        assert normal.shape == (SIDE, SIDE, 3)
        assert np.allclose(np.linalg.norm(normal, axis=-1), 1.0, atol=1e-4)
    for albedo in (told.albedo, told.behind_albedo):
        assert albedo.shape == (SIDE, SIDE, 3)
        assert albedo.dtype == told.mirror.dtype == np.float32
    assert told.mirror.shape == (3,)
    assert abs(np.linalg.norm(told.mirror) - 1.0) < 1e-4
    assert told.mirror[0] >= 0.0
    assert abs(told.elevation) < np.pi / 2.0
    assert 0.0 < told.elevation_error < np.pi
    mirrored = np.array(told.mirror_certainty)
    for share in (told.alpha, told.certainty, told.albedo, told.behind_albedo, mirrored):
        assert share.min() >= 0.0
        assert share.max() <= 1.0 + 1e-5
    assert told.front_error.min() > 0.0
    assert told.thickness.min() >= 0.0


def test_a_ball_is_cut_out_and_round(told: Sketch) -> None:
    _, mask, height = ball()
    seen = told.alpha > 0.5
    assert (seen & mask).sum() / (seen | mask).sum() > 0.95
    inner = height > 0.3 * RADIUS
    truth = height[inner] - height[inner].mean()
    found = told.front[inner] - told.front[inner].mean()
    assert np.corrcoef(truth, found)[0, 1] > 0.9
    middle = slice(SIDE // 2 - 8, SIDE // 2 + 8)
    assert 0.5 < told.thickness[middle, middle].mean() / (2.0 * RADIUS) < 1.4
    left, right = (told.normal[SIDE // 2, SIDE // 2 + step, 0] for step in (-60, 60))
    assert left < -0.3 < 0.3 < right


def test_a_thickness_between_two_bins_is_told_as_it_is() -> None:
    """A slope is no staircase: the network shares a thickness between the bins beside it."""
    bins, slope = thickness_bins(), np.linspace(0.05, 2.1, 400)
    above = np.searchsorted(bins, slope)
    share = (slope - bins[above - 1]) / (bins[above] - bins[above - 1])
    likely = np.zeros((1, len(slope), BINS), np.float32)
    likely[0, np.arange(len(slope)), above] = share
    likely[0, np.arange(len(slope)), above - 1] = 1.0 - share
    told, certainty = told_thickness(likely)
    assert np.allclose(told[0], slope, atol=1e-4)
    assert certainty.min() > 0.5


def test_a_second_guess_far_away_does_not_count() -> None:
    likely = np.zeros((1, 1, BINS), np.float32)
    likely[..., 6], likely[..., 20] = 0.7, 0.3
    assert told_thickness(likely)[0][0, 0] == pytest.approx(thickness_bins()[6], abs=1e-4)


def test_the_same_picture_gives_the_same_bits(net: Network, told: Sketch) -> None:
    again = sketch(net, ball()[0])
    for name in Sketch.__dataclass_fields__:
        assert np.array_equal(getattr(again, name), getattr(told, name)), name


def test_a_mirrored_picture_gives_mirrored_estimates(net: Network, told: Sketch) -> None:
    mirrored = sketch(net, ball()[0][:, ::-1])
    assert np.allclose(mirrored.front[:, ::-1], told.front, atol=1e-3)
    assert np.allclose(mirrored.normal[:, ::-1] * (-1.0, 1.0, 1.0), told.normal, atol=1e-2)


def test_without_the_mirror_it_answers_too(net: Network, told: Sketch) -> None:
    once = sketch(net, ball()[0], mirrored=False)
    assert not np.array_equal(once.front, told.front)
    assert np.abs(once.alpha - told.alpha).mean() < 0.05


def test_other_pictures_are_refused(net: Network) -> None:
    with pytest.raises(ValueError, match="256 x 256"):
        sketch(net, np.zeros((64, 64, 3), np.uint8))


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"no weights at all")
    with pytest.raises(ValueError, match="not a safetensors file"):
        load_network(path)
    from safetensors.torch import save_file

    save_file({"stem.0.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="does not fit"):
        load_network(path)
    with pytest.raises(OSError, match="missing"):
        load_network(tmp_path / "missing.safetensors")
