"""Texels get what vertices at the same places would get; the fine mesh's shading is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from devtools.solids import animal, tiles
from stages.contract import Mesh
from stages.geometry.raster import interpolate, open_rasterizer
from stages.geometry.raster.cpu import CpuRasterizer
from stages.geometry.render import vertex_normals
from stages.isomer.coloring import color_vertices, color_views
from stages.isomer.params import IsomerParams
from stages.isomer.projection import gather
from stages.isomer.texture.bake import bake_colors, spread
from stages.isomer.texture.normal_map import bake_normals, tangents
from stages.isomer.texture.unwrap import unwrap
from stages.isomer.visibility import by_depth

SIZE = 256


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"cosine": "linear", "view_direction": "axis", "occlusion_margin": 3},
        {"visibility": "faces", "view_weights": (0.2, 1.0, 3.0, 0.7)},
    ],
    ids=["default", "other", "faces"],
)
def test_a_texel_has_the_colour_that_a_vertex_at_its_place_would_have(
    settings: dict[str, Any],
) -> None:
    """Legs hide each other and the body: what is seen from where differs from texel to texel."""
    mesh = animal()
    params = IsomerParams(raster_size=512, **settings)
    normals = vertex_normals(mesh.vertices, mesh.faces)
    mask = tiles(mesh, SIZE)[1] > 0.5
    rgb = np.random.default_rng(0).random((4, SIZE, SIZE, 3))
    views = color_views(rgb, mask, params)
    coloring = color_vertices(
        mesh.vertices, mesh.faces, normals, views, open_rasterizer("cpu"), params
    )
    cut = unwrap(mesh.vertices, mesh.faces, SIZE, CpuRasterizer(2))
    hidden = coloring.colors / 255.0
    texture = bake_colors(
        mesh, normals, cut.fragments, coloring.seen.T, hidden, coloring, views, params, 2
    )

    shown = cut.fragments
    at = shown.covered
    points, facing, base = (
        interpolate(shown, mesh.faces, each)[at] for each in (mesh.vertices, normals, hidden)
    )
    facing = facing / np.linalg.norm(facing, axis=1, keepdims=True)
    seen = interpolate(shown, mesh.faces, coloring.seen.T)[at].T
    if coloring.nearest is not None:
        seen = np.stack(
            [
                trust
                * by_depth(
                    points,
                    facing,
                    view.camera,
                    nearest,
                    params.min_cosine,
                    params.occlusion_margin,
                    params.view_direction,
                )
                for trust, view, nearest in zip(seen, views, coloring.nearest, strict=True)
            ]
        )
    power = 2.0 if params.cosine == "square" else 1.0
    evidence = gather(points, facing, views, seen, power, params.view_direction)
    wanted = evidence.blend(base, params.weight_threshold) * 255.0
    assert (evidence.weight > params.weight_threshold).mean() > 0.4
    off = np.abs(texture[at] - wanted).max(axis=1)
    # float32 on one side: a point on the border of "hidden" may fall on the other.
    assert (off < 1.5).mean() > 0.99


def test_texels_beside_a_chart_take_its_nearest_colour() -> None:
    texture = np.zeros((32, 32, 3), np.uint8)
    covered = np.zeros((32, 32), bool)
    texture[4:8, 4:8], covered[4:8, 4:8] = (200, 10, 10), True
    texture[20:28, 22:30], covered[20:28, 22:30] = (10, 10, 200), True
    full = spread(texture, covered)
    np.testing.assert_array_equal(full[covered], texture[covered])
    assert (full[0, 0] == (200, 10, 10)).all()
    assert (full[8, 6] == (200, 10, 10)).all()
    assert (full[31, 31] == (10, 10, 200)).all()
    assert (full.max(axis=2) == 200).all()


def test_an_empty_texture_stays_as_it_is() -> None:
    texture = np.zeros((8, 8, 3), np.uint8)
    np.testing.assert_array_equal(spread(texture, np.zeros((8, 8), bool)), texture)


def test_a_normal_map_brings_the_fine_shading_back() -> None:
    """A coarse ball with the normals of a fine, dented one: decoded as glTF says, with vertex
    normals, tangents and their cross product, each texel has the fine normal."""
    from trimesh.creation import icosphere

    coarse, round_ = icosphere(3, 0.8), icosphere(6, 0.8)
    dented = round_.vertices * (1.0 + 0.01 * np.sin(round_.vertices * 12.0).prod(axis=1))[:, None]
    fine = Mesh(dented.astype(np.float32), round_.faces.astype(np.int32))
    mesh = Mesh(coarse.vertices.astype(np.float32), coarse.faces.astype(np.int32))
    normals = vertex_normals(mesh.vertices, mesh.faces)
    fine_normals = vertex_normals(fine.vertices, fine.faces)
    cut = unwrap(mesh.vertices, mesh.faces, SIZE, CpuRasterizer(2))
    along = tangents(normals[cut.origin], cut)
    picture = bake_normals(mesh, normals, cut, along, fine, fine_normals, 2)

    at = cut.fragments.covered
    n = interpolate(cut.fragments, cut.faces, normals[cut.origin])[at]
    n /= np.linalg.norm(n, axis=1, keepdims=True)
    t = interpolate(cut.fragments, cut.faces, along[:, :3])[at]
    t /= np.linalg.norm(t, axis=1, keepdims=True)
    x, y, z = (picture[at].T / 255.0) * 2.0 - 1.0
    decoded = x[:, None] * t + y[:, None] * np.cross(n, t) + z[:, None] * n
    decoded /= np.linalg.norm(decoded, axis=1, keepdims=True)
    points = interpolate(cut.fragments, mesh.faces, mesh.vertices)[at]
    nearest = np.argmax(
        np.float32(points[::37] / np.linalg.norm(points[::37], axis=1, keepdims=True))
        @ np.float32(round_.vertices / 0.8).T,
        axis=1,
    )
    truth = fine_normals[nearest]
    after = np.degrees(np.arccos(np.clip((decoded[::37] * truth).sum(axis=1), -1, 1)))
    before = np.degrees(np.arccos(np.clip((n[::37] * truth).sum(axis=1), -1, 1)))
    assert before.mean() > 2.0
    assert after.mean() < 0.5 * before.mean()


def test_the_tangent_points_where_u_grows_and_the_bitangent_up() -> None:
    mesh = animal()
    normals = vertex_normals(mesh.vertices, mesh.faces)
    cut = unwrap(mesh.vertices, mesh.faces, SIZE, CpuRasterizer(2))
    along = tangents(normals[cut.origin], cut)
    corners = mesh.vertices[cut.origin][cut.faces].astype(np.float64)
    uv = cut.uv[cut.faces].astype(np.float64)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    (u1, v1), (u2, v2) = (uv[:, 1] - uv[:, 0]).T, (uv[:, 2] - uv[:, 0]).T
    scale = np.sign(u1 * v2 - u2 * v1)[:, None]
    grows = scale * (first * v2[:, None] - second * v1[:, None])
    falls = scale * (second * u1[:, None] - first * u2[:, None])  # v points down
    tangent = along[cut.faces].mean(axis=1)[:, :3]
    bitangent = np.cross(normals[cut.origin], along[:, :3])[cut.faces].mean(axis=1)

    def agreement(one: np.ndarray, two: np.ndarray) -> np.ndarray:
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
        return (one * two).sum(axis=1) / np.maximum(lengths, 1e-12)

    assert np.percentile(agreement(grows, tangent), 5) > 0.8
    # They are at right angles in the picture, not on a slanted surface.
    assert np.percentile(agreement(falls, -bitangent), 20) > 0.7
