"""FlexiCubes: tables for all 256 cases, the reference's meshes, and solids for any field."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch import Tensor

from devtools import fields
from stages.lrm.flexicubes.extract import CHUNK, NoSurfaceError, extract, find_surface_cubes
from stages.lrm.flexicubes.grid import cube_corners, vertex_count, vertex_positions
from stages.lrm.flexicubes.tables import CORNERS, EDGES, FACE_LOOPS, edge_groups, tables

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "flexicubes.npz"
SCALE = 2.1

seeds = st.integers(0, 2**32 - 1)


def neutral(cubes: Tensor) -> Tensor:
    return torch.zeros(len(cubes), 21)


def grid_points(resolution: int) -> Tensor:
    return vertex_positions(torch.arange(vertex_count(resolution)), resolution, SCALE)


def extract_plain(sdf: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    return extract(sdf, torch.zeros(len(sdf), 3), neutral, resolution, SCALE)


def random_field(seed: int, resolution: int) -> Tensor:
    """Independent values at every vertex, positive on the border."""
    generator = torch.Generator().manual_seed(seed)
    side = resolution + 1
    shift = torch.rand(1, generator=generator) * 1.6 - 0.8
    field = torch.rand(side, side, side, generator=generator) * 2.0 - 1.0 + shift
    closed = torch.full_like(field, 0.5)
    closed[1:-1, 1:-1, 1:-1] = field[1:-1, 1:-1, 1:-1]
    closed[side // 2, side // 2, side // 2] = -0.5
    return closed.reshape(-1)


# Tables


def active_edges(case: int) -> list[int]:
    return [e for e, (a, b) in enumerate(EDGES.tolist()) if (case >> a & 1) != (case >> b & 1)]


def test_the_groups_of_all_cases_are_the_published_tables() -> None:
    groups = [[list(group) for group in edge_groups(case)] for case in range(256)]
    text = json.dumps(groups, separators=(",", ":"))
    digest = "b9a2e177ea64c1ea3f478c33077f79f755e966373e04df21fe121004f623f698"
    assert hashlib.sha256(text.encode()).hexdigest() == digest


def test_cases_have_the_known_numbers_of_groups_and_edges() -> None:
    groups = [edge_groups(case) for case in range(256)]
    assert Counter(map(len, groups)) == {0: 2, 1: 162, 2: 82, 3: 8, 4: 2}
    sizes = Counter(len(group) for case in groups for group in case)
    assert sizes == {3: 144, 4: 66, 5: 72, 6: 52, 7: 24}


@pytest.mark.parametrize("case", range(256))
def test_every_active_edge_belongs_to_one_group(case: int) -> None:
    of_edge = tables().group_of_edge[case]
    assert np.flatnonzero(of_edge >= 0).tolist() == active_edges(case)
    assert sorted(edge for group in edge_groups(case) for edge in group) == active_edges(case)
    assert len(set(of_edge[of_edge >= 0].tolist())) == tables().group_count[case]


def test_36_cases_are_ambiguous_and_their_complements_separate_the_shared_face() -> None:
    faces = tables().ambiguous_face
    assert (faces >= 0).sum() == 36
    for case in np.flatnonzero(faces >= 0).tolist():
        loop = FACE_LOOPS[faces[case]].tolist()
        edges = [e for e, (a, b) in enumerate(EDGES.tolist()) if a in loop and b in loop]
        assert set(edges) <= set(active_edges(case))
        assert len(set(tables().group_of_edge[case, edges])) == 1
        assert active_edges(255 - case) == active_edges(case)
        assert len(set(tables().group_of_edge[255 - case, edges])) == 2


def test_the_edge_around_tables_name_the_same_grid_edge_in_all_four_cubes() -> None:
    resolution = 3
    corners = cube_corners(torch.arange(resolution**3), resolution).numpy()
    for axis in range(3):
        step = np.insert(np.array([(1, 1), (1, 0), (0, 1), (0, 0)]), axis, 0, axis=1)
        cubes = np.ravel_multi_index(tuple((np.array([1, 1, 1]) - step).T), (resolution,) * 3)
        assert np.all(np.diff(cubes) > 0)
        ends = corners[cubes[:, None], EDGES[tables().edge_around[axis]]]
        assert (ends == ends[0]).all()


def test_corners_of_cubes_are_numbered_along_x_then_y_then_z() -> None:
    resolution, cube = 4, (1, 2, 3)
    index = torch.tensor([(cube[0] * resolution + cube[1]) * resolution + cube[2]])
    corners = cube_corners(index, resolution)
    steps = (vertex_positions(corners, resolution, SCALE) / SCALE + 0.5) * resolution
    np.testing.assert_allclose(steps[0], CORNERS + cube, atol=1e-5)


# The reference's meshes


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN) as data:
        return dict(data)


def rotated(faces: np.ndarray) -> set[tuple[int, ...]]:
    """Faces with their lowest vertex first, as a set: the same whatever corner they start with."""
    return {tuple(np.roll(face, -int(face.argmin())).tolist()) for face in faces}


@pytest.mark.parametrize("name", ["sphere", "plain", "noise"])
def test_meshes_equal_the_references(golden: dict[str, np.ndarray], name: str) -> None:
    of = "sphere" if name == "plain" else name
    resolution = int(golden[f"{of}_res"])
    sdf = torch.from_numpy(golden[f"{of}_sdf"])
    deformation = torch.from_numpy(golden[f"{of}_deform"])
    weights = torch.full((resolution**3, 21), torch.nan)
    if name == "sphere":
        stored = torch.from_numpy(golden["sphere_weight_cubes"]).long()
        weights[stored] = torch.from_numpy(golden["sphere_weight"])
    elif name == "noise":
        weights = torch.from_numpy(golden["noise_weight"])
    else:
        deformation, weights = torch.zeros_like(deformation), torch.zeros_like(weights)
    vertices, faces = extract(sdf, deformation, lambda cubes: weights[cubes], resolution, SCALE)
    assert vertices.dtype == torch.float32
    assert faces.dtype == torch.int64
    distance, number = cKDTree(golden[f"{name}_verts"]).query(vertices.numpy())
    assert distance.max() < 1e-5
    assert sorted(number.tolist()) == list(range(len(golden[f"{name}_verts"])))
    assert rotated(number[faces.numpy()]) == rotated(golden[f"{name}_faces"])


def test_ambiguous_cubes_are_resolved_as_the_reference_does(golden: dict[str, np.ndarray]) -> None:
    side = int(golden["noise_res"]) + 1
    inside = torch.from_numpy(golden["noise_sdf"] < 0.0).reshape(side, side, side)
    found = find_surface_cubes(inside)
    np.testing.assert_array_equal(found.cubes, golden["noise_surf_cube_index"])
    np.testing.assert_array_equal(found.cases, golden["noise_case_resolved"])
    changed = golden["noise_case_raw"] != golden["noise_case_resolved"]
    assert changed.sum() == 28


# Any field


def winding_numbers(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """How often a closed mesh runs round each point, counter-clockwise from outside: 1 inside.

    Van Oosterom and Strackee, "The Solid Angle of a Plane Triangle", IEEE Trans. Biomed. Eng. 1983.
    """
    a, b, c = (vertices[faces[:, k]][None] - points[:, None] for k in range(3))
    la, lb, lc = (np.linalg.norm(v, axis=-1) for v in (a, b, c))
    volume = np.einsum("pfc,pfc->pf", a, np.cross(b, c))
    ab, bc, ca = (np.einsum("pfc,pfc->pf", u, v) for u, v in ((a, b), (b, c), (c, a)))
    half = np.arctan2(volume, la * lb * lc + ab * lc + bc * la + ca * lb)
    return np.asarray(half.sum(axis=1) / (2.0 * np.pi))


def sides(faces: np.ndarray) -> np.ndarray:
    """(3 F, 2) directed edges, side by side of all faces."""
    return np.concatenate([faces[:, [k, (k + 1) % 3]] for k in range(3)])


def is_manifold(faces: np.ndarray) -> bool:
    """Every edge has one face on either side; round every vertex the faces form one fan."""
    directed = Counter(map(tuple, sides(faces).tolist()))
    if any(count != 1 or (b, a) not in directed for (a, b), count in directed.items()):
        return False
    # Corners of faces as nodes, joined at either end of a shared edge: one component a vertex.
    corner = {
        (int(f[k]), int(f[(k + 1) % 3])): 3 * n + k for n, f in enumerate(faces) for k in range(3)
    }
    pairs = [
        (at, 3 * (corner[b, a] // 3) + (corner[b, a] % 3 + 1) % 3) for (a, b), at in corner.items()
    ]
    rows, columns = np.array(pairs).T
    links = coo_matrix((np.ones(len(rows)), (rows, columns)), (3 * len(faces),) * 2)
    return bool(connected_components(links, directed=False)[0] == len(np.unique(faces)))


@given(seeds, st.integers(3, 6), st.floats(0.0, 3.0))
@settings(max_examples=40, deadline=None)
def test_fields_closed_at_the_border_give_manifolds_that_wind_once_round_what_is_inside(
    seed: int, resolution: int, strength: float
) -> None:
    sdf = random_field(seed, resolution)
    generator = torch.Generator().manual_seed(seed)
    weights = strength * torch.randn(resolution**3, 21, generator=generator)
    vertices, faces = extract(
        sdf, torch.zeros(len(sdf), 3), lambda cubes: weights[cubes], resolution, SCALE
    )
    assert is_manifold(faces.numpy())
    assert len(np.unique(faces)) == len(vertices)
    points = grid_points(resolution).double().numpy()
    winding = winding_numbers(points, vertices.double().numpy(), faces.numpy())
    np.testing.assert_allclose(winding, (sdf < 0.0).double(), atol=1e-6)


@given(seeds, st.integers(2, 7), st.floats(0.0, 20.0))
@settings(max_examples=40, deadline=None)
def test_vertices_stay_within_their_cells_whatever_the_weights(
    seed: int, resolution: int, strength: float
) -> None:
    sdf = random_field(seed, resolution)
    generator = torch.Generator().manual_seed(seed)
    weights = strength * torch.randn(resolution**3, 21, generator=generator)
    most = SCALE / resolution / 8.0
    deformation = (2.0 * torch.rand(len(sdf), 3, generator=generator) - 1.0) * most
    vertices, _ = extract(sdf, deformation, lambda cubes: weights[cubes], resolution, SCALE)
    side = resolution + 1
    surface = find_surface_cubes((sdf < 0.0).reshape(side, side, side))
    count = torch.from_numpy(tables().group_count)[surface.cases].long()
    corners = vertex_positions(cube_corners(surface.cubes, resolution), resolution, SCALE)
    low = corners[:, 0].repeat_interleave(count, dim=0) - most - 1e-6
    high = corners[:, 7].repeat_interleave(count, dim=0) + most + 1e-6
    assert bool(((vertices >= low) & (vertices <= high)).all())


def test_two_cubes_that_share_an_ambiguous_face_give_a_manifold_only_when_both_change() -> None:
    """Cases C16 and C19: inside corners crosswise on a face, joined behind it on both sides."""
    raw = tables().ambiguous_face
    case = int(np.flatnonzero(raw == 1)[0])  # its ambiguous face looks to +x
    side = 6
    inside = torch.zeros(side, side, side, dtype=torch.bool)
    for corner in (c for c in range(8) if case >> c & 1):
        x, y, z = CORNERS[corner].tolist()
        inside[1 + x, 2 + y, 2 + z] = True
        inside[3 - x, 2 + y, 2 + z] = True  # the mirror image, on the other side of the face
    found = find_surface_cubes(inside)
    cubes = [int(np.ravel_multi_index((x, 2, 2), (side - 1,) * 3)) for x in (1, 2)]
    ours, mirrored = (int(found.cases[found.cubes.tolist().index(cube)]) for cube in cubes)
    assert ours == 255 - case
    assert raw[255 - mirrored] == 0  # and its face looked to -x
    sdf = torch.where(inside, -1.0, 1.0).reshape(-1)
    _, faces = extract_plain(sdf, side - 1)
    assert is_manifold(faces.numpy())


def test_weights_are_asked_for_surface_cubes_only_and_in_bounded_portions() -> None:
    resolution = 96
    points = grid_points(resolution)
    # A chequered field: nearly every cube is at the surface.
    waves = torch.sin(70.0 * points).prod(dim=1)
    asked: list[Tensor] = []

    def weights(cubes: Tensor) -> Tensor:
        asked.append(cubes)
        return neutral(cubes)

    extract(waves, torch.zeros(len(points), 3), weights, resolution, SCALE)
    assert len(asked) > 1
    assert max(map(len, asked)) <= CHUNK
    side = resolution + 1
    surface = find_surface_cubes((waves < 0.0).reshape(side, side, side))
    assert torch.equal(torch.cat(asked), surface.cubes)


def test_the_weights_move_vertices_towards_what_they_favour() -> None:
    resolution = 8
    sdf = torch.from_numpy(fields.sphere()(grid_points(resolution).numpy()))
    plain, _ = extract_plain(sdf, resolution)
    favoured = torch.zeros(21)
    favoured[12:20] = torch.where(torch.from_numpy(CORNERS[:, 0] == 1), 5.0, -5.0)

    def weights(cubes: Tensor) -> Tensor:
        return favoured.expand(len(cubes), 21)

    # A large alpha makes its corner's value count more, so the crossing moves away from it.
    moved, _ = extract(sdf, torch.zeros(len(sdf), 3), weights, resolution, SCALE)
    shift = moved - plain
    assert float(shift[:, 0].max()) < 1e-6
    assert float(shift[:, 0].mean()) < -0.01
    assert float(shift[:, 1:].abs().max()) < 1e-6


# Shapes with a formula


@pytest.mark.parametrize("name", ["sphere", "torus", "box"])
def test_surfaces_lie_where_the_formula_says_to_a_tenth_of_a_voxel(name: str) -> None:
    resolution = 40
    distance = getattr(fields, name)()
    sdf = torch.from_numpy(distance(grid_points(resolution).double().numpy())).float()
    vertices, faces = extract_plain(sdf, resolution)
    assert is_manifold(faces.numpy())
    error = np.abs(distance(vertices.double().numpy()))
    voxel = SCALE / resolution
    assert error.mean() < 0.06 * voxel
    # Means of crossings cut off a box's edges by up to (1 - 1/2) voxel; round shapes have none.
    assert error.max() < (0.5 if name == "box" else 0.12) * voxel
    expected_euler = 0 if name == "torus" else 2
    assert len(vertices) - len(faces) // 2 == expected_euler
    corners = vertices.double()[faces]
    outwards = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = fields.gradient(distance, corners.mean(dim=1).numpy())
    assert bool((outwards.numpy() * normals).sum(axis=1).min() > 0.0)


# What cannot be extracted


@pytest.mark.parametrize(("value", "inside"), [(0.3, 0.0), (-0.3, 1.0)])
def test_a_field_without_surface_is_an_error_that_says_on_which_side_it_is(
    value: float, inside: float
) -> None:
    with pytest.raises(NoSurfaceError) as caught:
        extract_plain(torch.full((vertex_count(4),), value), 4)
    assert caught.value.inside == inside


def test_a_surface_that_only_cuts_the_border_is_no_surface() -> None:
    field = torch.full((5, 5, 5), 1.0)
    field[0, 0, 0] = -1.0
    with pytest.raises(NoSurfaceError):
        extract_plain(field.reshape(-1), 4)


def test_fields_of_the_wrong_size_or_that_are_not_finite_are_refused() -> None:
    sdf = random_field(1, 4)
    with pytest.raises(ValueError, match="resolution 5 needs"):
        extract_plain(sdf, 5)
    for value in (torch.nan, torch.inf):
        sdf[7] = value
        with pytest.raises(ValueError, match="not finite"):
            extract_plain(sdf, 4)
    with pytest.raises(ValueError, match="need weights"):
        extract(random_field(1, 4), torch.zeros(125, 3), lambda c: torch.zeros(len(c), 20), 4, 1.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_cpus_mesh_in_half_a_gigabyte() -> None:
    resolution = 128
    points = grid_points(resolution)
    generator = torch.Generator().manual_seed(3)
    sdf = torch.from_numpy(fields.torus()(points.numpy()))
    deformation = (torch.rand(len(sdf), 3, generator=generator) - 0.5) / 256.0
    weights = torch.randn(4096, 21, generator=generator)
    on_cpu = extract(sdf, deformation, lambda cubes: weights[cubes % 4096], resolution, SCALE)
    near = [tensor.cuda() for tensor in (sdf, deformation, weights)]
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    vertices, faces = extract(
        near[0], near[1], lambda cubes: near[2][cubes % 4096], resolution, SCALE
    )
    assert torch.cuda.max_memory_allocated() - before < 0.5e9
    assert torch.equal(faces.cpu(), on_cpu[1])
    assert float((vertices.cpu() - on_cpu[0]).abs().max()) < 1e-5
