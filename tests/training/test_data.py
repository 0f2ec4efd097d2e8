"""The training's data: solids, views of them, and losses, on a few small examples."""

from __future__ import annotations

import math

import pytest
import torch

from stages.models.sketch_net.network import BINS, Estimates, thickness_bins
from training.batches import Batch
from training.degrade import jpeg
from training.families import FAMILIES, objects
from training.losses import losses
from training.parts import ELLIPSOID, MAX_PARTS, ROW, Builder, Dice
from training.pictures import is_held_back, is_used
from training.scenes import Scenes
from training.trace import trace


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_objects_are_the_same_for_a_seed() -> None:
    first, again = (objects(8, generator(3), 5) for _ in range(2))
    assert first.shape == (8, MAX_PARTS, ROW)
    assert torch.equal(first, again)
    assert not torch.equal(first, objects(8, generator(4), 5))
    assert torch.isfinite(first).all()


def test_every_family_fits_and_has_a_share() -> None:
    for family, share in FAMILIES:
        assert share > 0.0
        assert family(Dice(3, generator(), 5)).finish().shape == (3, MAX_PARTS, ROW)
    assert math.isclose(sum(share for _, share in FAMILIES), 1.0)


@pytest.mark.slow  # numba compiles the march
def test_a_ball_is_hit_in_front_and_behind() -> None:
    made = Builder(Dice(1, generator()))
    made.add((0.0, 0.0, 0.0), (0.5, 0.5, 0.5), ELLIPSOID)
    rays = torch.tensor([[[0.0, 0.3, 0.0], [0.0, 0.0, 0.6], [-1.0, -1.0, -1.0]]])
    rays = torch.nn.functional.normalize(rays, dim=1)
    eyes, spans = torch.tensor([[0.0, 0.0, 3.0]]), torch.tensor([[1.0, 5.0]])
    seen = trace(made.finish(), torch.ones(1, 8, 8), rays, eyes, spans)[0]
    assert seen[0].tolist() == [1.0, 0.0, 0.0]
    assert seen[1, 0] == pytest.approx(2.5, abs=0.01)
    assert seen[2, 0] == pytest.approx(3.5, abs=0.01)
    assert seen[3:6, 0].tolist() == pytest.approx([0.0, 0.0, 1.0], abs=0.01)


def test_the_truth_costs_least() -> None:
    size = 16
    mask = torch.zeros(1, 1, size, size, dtype=torch.bool)
    mask[..., 4:12, 4:12] = True
    front = torch.rand(1, 1, size, size, generator=generator())
    normal = torch.zeros(1, 3, size, size)
    normal[:, 2] = 1.0
    bins = thickness_bins()
    back = front - bins[7]
    nothing = torch.zeros(1, 2, size, size)
    scenes = Scenes(
        mask, front, back, normal, mask.byte(), normal, nothing, torch.zeros(1, 3),
        torch.zeros(1, MAX_PARTS), torch.ones(1, dtype=torch.bool),
    )  # fmt: skip
    batch = Batch(torch.zeros(1, 3, size, size), mask.float(), torch.ones(1), scenes)
    sure = torch.full((1, BINS, size // 2, size // 2), -20.0)
    sure[:, 7] = 20.0
    cut = torch.where(mask, 20.0, -20.0)
    spread = torch.full_like(front, -6.0)
    right = losses(Estimates(cut, front, spread, normal, sure), batch)
    for name in ("alpha", "front", "edges", "normal", "thickness"):
        assert float(right[name]) == pytest.approx(0.0, abs=1e-3), name
    wrong = losses(Estimates(-cut, front * 2, spread, -normal, sure.roll(3, 1)), batch)
    for name, value in wrong.items():
        assert value > right[name], name


def test_jpeg_loses_more_at_a_lower_quality() -> None:
    picture = torch.rand(2, 3, 32, 32, generator=generator())
    good, bad = (jpeg(picture, torch.full((2,), q)) for q in (95.0, 20.0))
    assert 0.0 < (good - picture).abs().mean() < (bad - picture).abs().mean()
    flat = torch.full((1, 3, 16, 16), 0.5)
    assert torch.allclose(jpeg(flat, torch.tensor([30.0])), flat, atol=1e-4)


def test_renders_are_held_back_by_name() -> None:
    names = [f"{number:x}" for number in range(0x1F300, 0x1F600)]
    share = sum(map(is_held_back, names)) / len(names)
    assert 0.05 < share < 0.16
    assert is_used("1f34e")
    assert not is_used("1f1e6-1f1e9")
    assert not is_used("1f44d-1f3fd")
