"""Scores of meshes and pictures, on cases whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import trimesh

from devtools.solids import ball, solid
from stages.contract import Mesh
from stages.evaluation import (
    TriangleTree,
    Views,
    compare_surfaces,
    compare_views,
    normalized,
    psnr,
    sample_surface,
    silhouette_iou,
    view_mesh,
)
from stages.geometry.cameras import bundle_cameras
from stages.geometry.raster import open_rasterizer


def square(z: float = 0.0, side: float = 2.0) -> Mesh:
    half = side / 2.0
    vertices = [(-half, -half, z), (half, -half, z), (half, half, z), (-half, half, z)]
    return Mesh(np.array(vertices, np.float32), np.array([(0, 1, 2), (0, 2, 3)], np.int32))


def joined(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0] + [len(m.vertices) for m in meshes])
    faces = [m.faces + start for m, start in zip(meshes, starts, strict=False)]
    vertices = np.concatenate([m.vertices for m in meshes])
    return Mesh(vertices, np.concatenate(faces).astype(np.int32))


def moved(mesh: Mesh, scale: float = 1.0, by: tuple[float, float, float] = (0, 0, 0)) -> Mesh:
    return Mesh((mesh.vertices * scale + by).astype(np.float32), mesh.faces)


def test_a_mesh_matches_itself() -> None:
    scores = compare_surfaces(ball(), ball())
    assert scores.chamfer_l1 < 1e-7
    assert scores.chamfer_l2 < 1e-14
    assert scores.precision == scores.recall == scores.f_score == 1.0
    assert scores.normal_consistency == pytest.approx(1.0, abs=1e-9)


def test_parallel_squares_are_their_gap_apart() -> None:
    scores = compare_surfaces(square(0.0), square(0.25), tau=0.26)
    assert scores.chamfer_l1 == pytest.approx(0.25)
    assert scores.chamfer_l2 == pytest.approx(0.0625)
    assert scores.f_score == 1.0
    assert compare_surfaces(square(0.0), square(0.25), tau=0.24).f_score == 0.0


def test_a_shifted_sphere_has_the_distance_that_the_integral_gives() -> None:
    shift = 0.3
    cosine = np.linspace(-1.0, 1.0, 20_001)  # heights are uniform on a sphere
    distance = np.abs(np.sqrt(1.0 + shift**2 - 2.0 * shift * cosine) - 1.0)
    scores = compare_surfaces(ball(1.0, x=shift), ball(1.0))
    assert scores.chamfer_l1 == pytest.approx(distance.mean(), rel=0.01)
    assert scores.chamfer_l2 == pytest.approx((distance**2).mean(), rel=0.01)
    assert scores.precision == pytest.approx((distance <= scores.tau).mean(), abs=0.01)


def test_turning_the_arguments_round_swaps_precision_and_recall() -> None:
    part, whole = square(), joined(square(), square(1.0))
    scores, turned = compare_surfaces(part, whole), compare_surfaces(whole, part)
    assert scores.precision == 1.0
    assert scores.recall == pytest.approx(0.5, abs=0.01)
    assert scores.from_truth == pytest.approx(0.5, abs=0.01)
    assert (turned.precision, turned.recall) == (scores.recall, scores.precision)
    assert turned.chamfer_l1 == scores.chamfer_l1


def test_tau_is_a_share_of_half_the_truths_longest_side() -> None:
    truth = square(side=4.0)
    assert compare_surfaces(square(), truth, tau=0.1).tau == pytest.approx(0.2)


def test_normals_across_and_turned_over() -> None:
    upright = Mesh(square().vertices[:, [0, 2, 1]], square().faces)
    assert compare_surfaces(upright, square()).normal_consistency == pytest.approx(0.0, abs=1e-9)
    over = Mesh(square().vertices, square().faces[:, ::-1].copy())
    assert compare_surfaces(over, square()).normal_consistency == pytest.approx(1.0)


def test_normalizing_takes_scale_and_place_out_of_the_score() -> None:
    other = moved(ball(), 7.0, (3.0, -2.0, 40.0))
    assert compare_surfaces(other, ball()).f_score == 0.0
    scores = compare_surfaces(normalized(other), normalized(ball()))
    assert scores.chamfer_l1 < 1e-5
    assert scores.f_score == 1.0
    assert scores.tau == pytest.approx(0.05)


def test_normalizing_ignores_vertices_without_faces() -> None:
    stray = Mesh(np.concatenate([ball().vertices, np.full((1, 3), 99, np.float32)]), ball().faces)
    low, high = normalized(stray).vertices[:-1].min(axis=0), normalized(stray).vertices[:-1].max(0)
    assert low == pytest.approx(-1.0, abs=1e-3)
    assert high == pytest.approx(1.0, abs=1e-3)


def test_what_nothing_outside_can_see_does_not_count_on_request() -> None:
    truth = joined(ball(0.8), ball(0.4))
    assert compare_surfaces(ball(0.8), truth).recall == pytest.approx(0.8, abs=0.01)
    scores = compare_surfaces(ball(0.8), truth, samples=10_000, outside_only=True)
    assert scores.counted == pytest.approx(0.8, abs=0.01)
    assert scores.recall == 1.0


def test_both_sides_of_an_open_sheet_are_outside() -> None:
    tree = TriangleTree(square().vertices, square().faces)
    points, _ = sample_surface(square().vertices, square().faces, 500, seed=1)
    assert tree.seen_from_outside(points).all()


def test_the_nearest_triangle_is_the_one_that_brute_force_finds() -> None:
    generator = np.random.default_rng(5)
    vertices = generator.normal(size=(60, 3))
    faces = generator.integers(0, 60, size=(157, 3))
    faces[::10, 2] = faces[::10, 1]  # these have no area and are no surface
    whole = np.array([len(set(face)) == 3 for face in faces.tolist()])
    points = generator.normal(size=(400, 3)) * 1.5
    distance, ids = TriangleTree(vertices, faces).nearest(points)
    # A fan of points on every triangle cannot come nearer, and comes close to the nearest point.
    steps = np.array([(i, j) for i in range(41) for j in range(41 - i)]) / 40.0
    weights = np.column_stack([1.0 - steps.sum(axis=1), steps])
    best = np.full(len(points), np.inf)
    for face in faces[whole]:
        dots = weights @ vertices[face]
        gaps = ((points[:, None] - dots[None]) ** 2).sum(axis=2).min(axis=1)
        best = np.minimum(best, np.sqrt(gaps))
    assert (distance <= best + 1e-9).all()
    assert np.abs(distance - best).max() < 0.12
    own = [
        TriangleTree(vertices, faces[i : i + 1]).nearest(point[None])[0]
        for i, point in zip(ids, points, strict=True)
    ]
    assert np.concatenate(own) == pytest.approx(distance, abs=1e-9)


def test_distances_agree_with_trimesh() -> None:
    shape = trimesh.creation.icosphere(2)
    points = np.random.default_rng(2).normal(size=(200, 3))
    wanted = trimesh.proximity.closest_point_naive(shape, points)[1]
    distance, _ = TriangleTree(shape.vertices, shape.faces).nearest(points)
    assert distance == pytest.approx(wanted, abs=1e-9)


def test_samples_are_even_by_area_and_depend_on_the_seed_alone() -> None:
    mesh = joined(square(0.0, side=1.0), square(1.0, side=3.0))
    np.random.seed(3)  # noqa: NPY002 (the global generator must not matter)
    points, ids = sample_surface(mesh.vertices, mesh.faces, 10_000, seed=7)
    assert (points[:, 2] == 1.0).mean() == pytest.approx(0.9, abs=1e-3)
    assert np.abs(points[ids >= 2].mean(axis=0) - (0, 0, 1)).max() < 0.03
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert np.array_equal(sample_surface(mesh.vertices, mesh.faces, 10_000, seed=7)[0], points)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002
    assert not np.array_equal(sample_surface(mesh.vertices, mesh.faces, 10_000, 8)[0], points)


def test_faces_without_area_are_never_sampled() -> None:
    mesh = square()
    faces = np.concatenate([[(0, 0, 1)], mesh.faces, [(2, 2, 2)]]).astype(np.int32)
    assert set(sample_surface(mesh.vertices, faces, 1000, 0)[1]) == {1, 2}


def test_a_mesh_without_area_has_no_scores() -> None:
    flat = Mesh(np.zeros((3, 3), np.float32), np.array([(0, 1, 2)], np.int32))
    with pytest.raises(ValueError, match="no area"):
        compare_surfaces(flat, ball())
    with pytest.raises(ValueError, match="single point"):
        normalized(flat)


def test_psnr_of_a_known_error() -> None:
    image = np.zeros((2, 4, 4, 3))
    where = np.zeros((2, 4, 4), bool)
    where[0, 1:3] = True
    truth = np.where(where[..., None], 0.1, 0.9)
    assert psnr(image, truth, where) == pytest.approx(20.0)
    assert psnr(image, image, where) == math.inf
    assert math.isnan(psnr(image, truth, where & False))


def test_silhouette_overlap_by_view() -> None:
    a, b = np.zeros((3, 4, 4), bool), np.zeros((3, 4, 4), bool)
    a[0, :2], b[0, 1:3] = True, True
    a[1] = True
    assert silhouette_iou(a, b).tolist() == [pytest.approx(1 / 3), 0.0, 1.0]


def test_views_of_a_larger_ball() -> None:
    cameras, rasterizer = bundle_cameras(), open_rasterizer("cpu")
    small, large = (view_mesh(ball(r), cameras, 128, rasterizer) for r in (0.6, 0.75))
    scores = compare_views(large, small)
    # Both balls are discs of radius r / sqrt(radius^2 - r^2).
    wanted = (0.6**2 / (4.15**2 - 0.6**2)) / (0.75**2 / (4.15**2 - 0.75**2))
    assert scores.iou == pytest.approx([wanted] * 4, abs=0.01)
    assert scores.normal_psnr < scores.normal_psnr_inner
    assert scores.rgb_psnr is scores.rgb_psnr_tile is None
    same = compare_views(small, small)
    assert (same.mean_iou, same.normal_psnr) == (1.0, math.inf)
    assert same.normal_angle < 1e-3


def test_colours_are_scored_inside_and_over_the_whole_tile() -> None:
    shape = solid(trimesh.creation.box((1.0, 1.0, 1.0)))

    def seen(gray: int) -> Views:
        colors = np.full((len(shape.vertices), 3), gray, np.uint8)
        mesh = Mesh(shape.vertices, shape.faces, colors)
        return view_mesh(mesh, bundle_cameras()[:1], 64, open_rasterizer("cpu"), samples=1)

    scores = compare_views(seen(51), seen(102))
    assert scores.rgb_psnr == pytest.approx(-20 * math.log10(0.2), abs=1e-4)
    share = seen(51).mask.mean()
    assert scores.rgb_psnr_tile == pytest.approx(-10 * math.log10(0.04 * share), abs=1e-4)
