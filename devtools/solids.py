"""Solids made in code, and perfect bundles of them, for the tests of the hull stages."""

from __future__ import annotations

import numpy as np
import trimesh
from scipy.spatial import cKDTree

from stages.contract import Mesh
from stages.geometry.bundle import join
from stages.geometry.camera_rig import RADIUS
from stages.geometry.cameras import bundle_cameras
from stages.geometry.raster import open_rasterizer
from stages.geometry.render import coverage, look, normal_tile, vertex_normals

UP = trimesh.transformations.rotation_matrix(np.pi / 2, (1, 0, 0))


def solid(shape: trimesh.Trimesh, flat: bool = False) -> Mesh:
    """`flat`: give each face its own corners, so that its normal is its own too."""
    vertices, faces = np.asarray(shape.vertices), np.asarray(shape.faces)
    if flat:
        vertices = vertices[faces].reshape(-1, 3)
        faces = np.arange(len(vertices)).reshape(-1, 3)
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32))


def ball(radius: float = 0.8, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Mesh:
    shape = trimesh.creation.icosphere(4, radius)
    shape.apply_translation((x, y, z))
    return solid(shape)


def torus() -> Mesh:
    """Its hole is seen from the front."""
    return solid(trimesh.creation.torus(0.6, 0.2, 64, 32))


def box(*sides: float) -> Mesh:
    return solid(trimesh.creation.box(sides), flat=True)


def upright_cylinder() -> Mesh:
    shape = trimesh.creation.cylinder(0.5, 1.4, sections=96)
    shape.apply_transform(UP)
    return solid(shape, flat=True)


def animal() -> Mesh:
    """Body, head towards +z, four thin legs."""
    body = trimesh.creation.capsule(0.7, 0.3)
    body.apply_translation((0.0, 0.0, -0.35))
    head = trimesh.creation.icosphere(3, 0.28)
    head.apply_translation((0.0, 0.35, 0.6))
    parts = [body, head]
    for x in (-0.2, 0.2):
        for z in (-0.35, 0.35):
            leg = trimesh.creation.capsule(0.5, 0.1)
            leg.apply_transform(UP)
            leg.apply_translation((x, -0.2, z))
            parts.append(leg)
    return solid(trimesh.util.concatenate(parts))  # type: ignore[arg-type]


def tiles(mesh: Mesh, size: int = 512, radius: float = RADIUS) -> tuple[np.ndarray, np.ndarray]:
    """Normal tiles (4, S, S, 3) float32 and coverage (4, S, S) of a mesh."""
    rasterizer = open_rasterizer("cpu")
    normals = vertex_normals(mesh.vertices, mesh.faces)
    maps, covers = [], []
    for camera in bundle_cameras(radius):
        seen = look(mesh.vertices, mesh.faces, camera, size, 2, rasterizer)
        maps.append(normal_tile(seen, mesh.faces, normals, camera, 2))
        covers.append(coverage(seen, 2))
    return np.stack(maps), np.stack(covers)


def bundle_of(mesh: Mesh, size: int = 512, radius: float = RADIUS) -> np.ndarray:
    """(2 S, 4 S, 3) float32: the colours are a flat orange."""
    return orange(*tiles(mesh, size, radius))


def orange(normals: np.ndarray, cover: np.ndarray) -> np.ndarray:
    """The bundle of what `tiles` returns."""
    share = cover[..., None]
    colors = np.array([0.9, 0.5, 0.1]) * share + (1.0 - share)
    return join(colors, normals).astype(np.float32)


def silhouette_ious(mesh: Mesh, truth: np.ndarray, radius: float = RADIUS) -> list[float]:
    """Overlap of a mesh' silhouettes with (4, S, S) coverage, one number a view."""
    rasterizer, size = open_rasterizer("cpu"), truth.shape[1]
    covers = [
        coverage(look(mesh.vertices, mesh.faces, camera, size, 2, rasterizer), 2)
        for camera in bundle_cameras(radius)
    ]
    ours, theirs = np.stack(covers) > 0.5, truth > 0.5
    both = (ours & theirs).sum(axis=(1, 2))
    return list(both / (ours | theirs).sum(axis=(1, 2)))


def chamfer(a: Mesh, b: Mesh, count: int = 40_000) -> float:
    """Mean distance of surface samples of either mesh to the nearest of the other's."""
    points = [
        trimesh.sample.sample_surface(trimesh.Trimesh(m.vertices, m.faces), count, seed=1)[0]
        for m in (a, b)
    ]
    there = cKDTree(points[1]).query(points[0])[0].mean()
    back = cKDTree(points[0]).query(points[1])[0].mean()
    return float(there + back) / 2.0


def is_closed_solid(mesh: Mesh) -> bool:
    """Every edge has two faces that run along it in opposite directions, and out is out."""
    shape = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    return bool(shape.is_watertight and shape.is_winding_consistent and shape.volume > 0)
