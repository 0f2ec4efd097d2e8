"""The training's data: solids, views of them, and losses, on a few small examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stages.models.sketch_net.bins import BINS, thickness_bins
from stages.models.sketch_net.network import Estimates
from stages.models.sketch_net.predict import _normal
from training.batches import Batch
from training.cameras import looking
from training.degrade import jpeg
from training.drawn import edges
from training.faceted import facets
from training.families import FAMILIES, objects
from training.losses import losses, mirror_cosine, packed
from training.parts import BOX, ELLIPSOID, MAX_PARTS, ROW, Builder, Dice
from training.pictures import is_held_back, is_used
from training.scenes import Scenes
from training.symmetry import mirrors
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
    assert seen[7:10, 0].tolist() == pytest.approx([0.0, 0.0, -1.0], abs=0.01)


def test_the_truth_costs_least() -> None:
    size = 16
    mask = torch.zeros(1, 1, size, size, dtype=torch.bool)
    mask[..., 4:12, 4:12] = True
    front = torch.rand(1, 1, size, size, generator=generator())
    normal = torch.zeros(1, 3, size, size)
    normal[:, 2] = 1.0
    bins = torch.from_numpy(thickness_bins())
    back = front - bins[7]
    nothing = torch.zeros(1, 2, size, size)
    away = torch.cat([-normal, normal, mask.float()], 1)[..., ::2, ::2]
    upright = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    scenes = Scenes(
        mask, front, back, normal, mask.byte(), normal, away, nothing, torch.zeros(1, 3),
        torch.zeros(1, MAX_PARTS), torch.ones(1, dtype=torch.bool), torch.full((1,), 0.2),
        torch.ones(1, dtype=torch.bool), upright, torch.zeros(1, dtype=torch.bool),
    )  # fmt: skip
    paint = torch.rand(1, 3, size, size, generator=generator(1))
    behind = paint[..., ::2, ::2] * 0.5
    picture = torch.zeros(1, 3, size, size)
    batch = Batch(picture, mask.float(), torch.ones(1), scenes, paint, behind)
    sure = torch.full((1, BINS, size // 2, size // 2), -20.0)
    sure[:, 7] = 20.0
    cut = torch.where(mask, 20.0, -20.0)
    spread = torch.full_like(front, -6.0)
    across = torch.tensor([[1.0, 0.0, 0.0, 0.0, 0.0, 0.0]])
    along = torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0, 0.0]])
    certain = torch.full((1,), 20.0)
    told = Estimates(
        cut,
        front,
        spread,
        normal,
        sure,
        paint,
        away[:, :3],
        behind,
        scenes.rise,
        torch.full((1,), -5.0),
        across,
        certain,
    )
    right = losses(told, batch)
    for name, value in right.items():
        if "spread" not in name:
            assert float(value) == pytest.approx(0.0, abs=1e-3), name
    wrong = losses(
        Estimates(
            -cut, front * 2, spread, -normal, sure.roll(3, 1), 1.0 - paint, -away[:, :3],
            1.0 - behind, -scenes.rise, torch.full((1,), -5.0), along, certain,
        ),
        batch,
    )  # fmt: skip
    for name, value in wrong.items():
        assert value > right[name], name


def test_the_mirror_plane_is_read_from_its_matrix() -> None:
    normal = torch.nn.functional.normalize(torch.tensor([[0.8, -0.1, 0.5]]), dim=1)
    entries = packed(normal[:, :, None] * normal[:, None, :])
    nearest = torch.stack([torch.zeros_like(normal), -normal], 1)
    assert float(mirror_cosine(0.4 * entries, nearest)) == pytest.approx(1.0, abs=1e-4)
    across = torch.linalg.cross(normal, torch.tensor([[0.0, 1.0, 0.0]]))
    assert float(mirror_cosine(entries, across[:, None])) == pytest.approx(0.0, abs=1e-3)
    assert np.allclose(_normal(entries[0].numpy()), normal[0].numpy(), atol=1e-5)


@pytest.mark.slow  # numba compiles the march
def test_what_mirrors_an_object_is_seen_from_outside() -> None:
    """A ball, a box turned askew, and a body with one arm."""
    dice = Dice(3, generator())
    ball, askew, one = torch.eye(3)
    made = Builder(dice)
    made.add(
        (0.0, 0.0, 0.0), (0.5, 0.5, torch.where(ball > 0.5, 0.5, 0.3)),
        torch.where(ball > 0.5, ELLIPSOID, BOX), turn=(askew * 0.4, askew * 0.5, askew * 0.3),
    )  # fmt: skip
    made.add((0.6, 0.0, 0.0), (0.4, 0.1, 0.1), on=one)
    axes = looking(torch.full((3,), 0.6), torch.full((3,), 0.2))
    found = mirrors(made.finish(), torch.ones(1, 8, 8), axes)
    there = (found.norm(dim=2) > 0.5).tolist()
    assert there == [[True, True, True], [False, False, False], [False, True, False]]
    assert torch.allclose(found[2, 1], axes[2, :, 2], atol=1e-5)


def test_lines_are_drawn_inside_the_outline_and_between_parts() -> None:
    size = 12
    mask = torch.zeros(1, 1, size, size, dtype=torch.bool)
    mask[..., 2:10, 2:10] = True
    part = mask.byte()
    part[..., 6:] *= 2
    normal = torch.zeros(1, 3, size, size)
    normal[:, 2] = 1.0
    level = torch.zeros(1, 1, size, size)
    scenes = Scenes(
        mask, level, level, normal, part, normal, torch.zeros(1, 7, size // 2, size // 2), level,
        torch.zeros(1, 3), torch.zeros(1, 2),
        torch.ones(1, dtype=torch.bool), torch.zeros(1), torch.ones(1, dtype=torch.bool),
            torch.zeros(1, 3, 3),
        torch.zeros(1, dtype=torch.bool),
    )  # fmt: skip
    drawn = edges(scenes)[0, 0] > 0.5
    assert not drawn[~mask[0, 0]].any()
    assert drawn[5, 2]
    assert drawn[5, 5]
    assert drawn[5, 6]
    assert not drawn[4:8, 3:5].any()


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


@pytest.mark.slow  # numba compiles the march
@pytest.mark.parametrize("lean", [0.0, 0.4])
def test_a_prism_has_as_many_flat_sides_as_it_should(lean: float) -> None:
    dice = Dice(1, generator())
    made = Builder(dice)
    full = dice.constant
    facets(made, (0.0, full(0.8)), full(0.6), full(lean), full(6.0), full(1.0) > 0.0)
    angles = torch.linspace(0.0, 2.0 * math.pi, 361)[:-1]
    away = torch.stack([angles.cos(), torch.zeros_like(angles), angles.sin()])
    normals = []
    for eye in (away * 3.0).T:
        rays = torch.nn.functional.normalize(-eye, dim=0)[None, :, None]
        seen = trace(
            made.finish(), torch.ones(1, 8, 8), rays, eye[None], torch.tensor([[1.0, 5.0]])
        )[0]
        assert seen[0, 0] == 1.0
        normals.append(seen[3:6, 0])
    turned = torch.stack(normals)
    slope = 0.6 * math.cos(math.pi / 6.0) * lean / 0.8
    level = -math.sin(math.atan(slope))
    # Half a degree of 60 is an edge, where sides meet.
    flat = (turned[:, 1] - level).abs() < 0.02
    assert flat.float().mean() > 0.9
    sides = torch.unique(torch.round(torch.atan2(turned[flat, 2], turned[flat, 0]) * 3.0 / math.pi))
    assert len(sides[sides > -3.0]) == 6
