"""The zero level of a field as a clean closed mesh."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from skimage.measure import marching_cubes

from stages.contract import Mesh
from stages.geometry.mesh_parts import part_of_faces
from stages.geometry.normal_fusion.field import MARGIN, Grid

CLEARANCE = 1e-3
"""Steps by which nodes are kept off the level: a surface through a node has faces of no area."""
COARSEST = 16
"""Nodes along a side below which a surface with too many faces is none."""
LAMBDA, MU = 0.5, -0.53
"""Taubin, "A Signal Processing Approach to Fair Surface Design", SIGGRAPH 1995."""


def extract(field: np.ndarray, grid: Grid, max_faces: int, smoothing: int, min_part: float) -> Mesh:
    """Marching cubes, the larger parts only, lightly smoothed.

    field      (X, Y, Z) float32, negative inside
    max_faces  a finer surface is sampled again on a coarser grid
    smoothing  rounds of Taubin smoothing
    min_part   parts below this share of the largest part's volume are dropped, and so are voids

    Closed, outward-oriented, no colours. Raises ValueError if the field has no inside, or is noise.
    """
    if not (field < 0.0).any():
        raise ValueError("the field has no inside")
    vertices, faces = _level_set(field)
    step, origin = grid.step, grid.origin
    while len(faces) > max_faces:
        # Faces go with the square of the resolution; 3 % spare for rounding.
        scale = 0.97 * float(np.sqrt(max_faces / len(faces)))
        high = grid.origin + grid.step * (np.array(grid.shape) - 1)
        # Fewer each time: the margin that is added again may be all that the scale took away.
        nodes = min(int(max(grid.shape) * scale) + 2 * MARGIN, max(grid.shape) - 2)
        if nodes < COARSEST:
            raise ValueError("its surface is as rough as noise")
        coarse = Grid.around(grid.origin, high, nodes)
        resampled = grid.resample(field, coarse)
        field, grid = resampled, coarse
        step, origin = coarse.step, coarse.origin
        vertices, faces = _level_set(resampled)
    vertices = origin + step * vertices
    vertices, faces = _larger_parts(vertices, faces, min_part)
    vertices = _smooth(vertices, faces, smoothing)
    return Mesh(vertices.astype(np.float32), faces.astype(np.int32))


def _level_set(field: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    inside = field < 0.0
    scale = float(np.abs(field[1:] - field[:-1]).max())
    gap = CLEARANCE * max(scale, 1e-9)
    values = np.where(inside, np.minimum(field, -gap), np.maximum(field, gap))
    for axis in range(3):  # whatever the field, the surface stays closed at the grid's border
        border = np.moveaxis(values, axis, 0)
        border[[0, -1]] = np.maximum(border[[0, -1]], gap)
    vertices, faces, _, _ = marching_cubes(values, 0.0, gradient_direction="ascent")
    return vertices.astype(np.float64), faces


def _larger_parts(
    vertices: np.ndarray, faces: np.ndarray, min_part: float
) -> tuple[np.ndarray, np.ndarray]:
    part = part_of_faces(faces, len(vertices))
    corners = vertices[faces]
    signed = np.einsum("fc,fc->f", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6.0
    volume = np.bincount(part, signed)
    if volume.sum() < 0.0:
        faces, volume = faces[:, ::-1], -volume
    kept = volume >= min_part * volume.max()
    faces = faces[kept[part]]
    used, renamed = np.unique(faces, return_inverse=True)
    return vertices[used], renamed.reshape(-1, 3)


def _smooth(vertices: np.ndarray, faces: np.ndarray, rounds: int) -> np.ndarray:
    count = len(vertices)
    a = faces.ravel()
    b = faces[:, [1, 2, 0]].ravel()
    links = sp.csr_matrix((np.ones(len(a)), (a, b)), shape=(count, count))
    links = links + links.T
    links.data[:] = 1.0
    degree = np.asarray(links.sum(axis=1))
    for _ in range(rounds):
        for factor in (LAMBDA, MU):
            vertices = vertices + factor * (links @ vertices / degree - vertices)
    return vertices
