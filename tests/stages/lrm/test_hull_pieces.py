"""A mesh in more pieces than its pictures show is told of."""

from __future__ import annotations

import numpy as np
import pytest

from devtools.solids import ball, bundle_of
from stages.contract import Context, Mesh
from stages.lrm.hull import pieces
from stages.lrm.hull.params import HullParams
from stages.lrm.hull.pieces import fallen_apart, mesh_pieces
from stages.lrm.hull.stage import HullReconstruct


def together(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([m.faces + start for m, start in zip(meshes, starts, strict=False)]),
    )


TWO = together(ball(0.35, x=-0.4), ball(0.3, x=0.45))


def test_pieces_are_counted() -> None:
    assert mesh_pieces(ball()) == 1
    assert mesh_pieces(TWO) == 2


def test_more_pieces_than_the_views_show_are_told() -> None:
    assert fallen_apart(TWO, bundle_of(TWO, 128)) == ""
    assert fallen_apart(ball(), bundle_of(ball(), 128)) == ""
    assert "in 2 pieces where the views show one" in fallen_apart(TWO, bundle_of(ball(), 128))


def test_the_stage_warns_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    context = Context(threads=2, warn=lambda text, degraded=False: said.append(text))
    made = HullReconstruct(HullParams(resolution=48))
    made.run({"bundle": bundle_of(TWO, 128)}, context)
    assert not said
    monkeypatch.setattr(pieces, "mesh_pieces", lambda mesh: 3)
    assert made.run({"bundle": bundle_of(TWO, 128)}, context)["coarse_mesh"].faces.size
    assert len(said) == 1
    assert "3 pieces where the views show 2" in said[0]


def test_a_known_body_is_taken_as_it_is() -> None:
    """Thinner than any voxel, and no part of what the bundle shows."""
    stage = HullReconstruct(HullParams(resolution=48))
    made = stage.run({"bundle": bundle_of(ball(), 128), "known_body": TWO}, Context(threads=2))
    assert made["coarse_mesh"] is TWO
    stage = HullReconstruct(HullParams(resolution=48, known_body=False))
    made = stage.run({"bundle": bundle_of(ball(), 128), "known_body": TWO}, Context(threads=2))
    assert mesh_pieces(made["coarse_mesh"]) == 1
