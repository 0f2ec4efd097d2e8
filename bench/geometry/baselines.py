"""What a mesh of one picture, or of four silhouettes, looks like without any idea of shape."""

from __future__ import annotations

import numpy as np
import trimesh
from scipy.ndimage import distance_transform_edt, map_coordinates
from skimage.measure import marching_cubes

from stages.contract import Mesh
from stages.geometry.cameras import Camera


def extrusion(mask: np.ndarray, camera: Camera) -> Mesh:
    """The mask (S, S) bool as a slab across the view, half as deep as its box is short."""
    plane = _signed_distance(mask)
    rows, columns = np.nonzero(mask)
    half = 0.25 * min(np.ptp(rows) + 1, np.ptp(columns) + 1)
    step = max(1, len(mask) // 128)
    depth = np.arange(-half - 2 * step, half + 2.5 * step, step)
    plane = np.pad(plane[::step, ::step], 1, constant_values=float(len(mask)))
    field = np.maximum(plane[:, :, None], np.abs(depth)[None, None] - half)
    vertices, faces, _, _ = marching_cubes(-field, 0.0)
    row, column, layer = vertices.T
    local = np.stack([(column - 1) * step, -(row - 1) * step, depth[0] + layer * step], axis=1)
    return _placed(local, faces, camera)


def ellipsoid(mask: np.ndarray, camera: Camera) -> Mesh:
    """The ellipse that has the mask's centre and second moments, as deep as its shorter axis."""
    rows, columns = np.nonzero(mask)
    points = np.stack([columns, -rows], axis=1).astype(np.float64)
    variance, axes = np.linalg.eigh(np.cov(points.T))
    half = 2.0 * np.sqrt(variance)  # of a filled ellipse
    ball = trimesh.creation.icosphere(5)
    flat = (ball.vertices[:, :2] * half) @ axes.T + points.mean(axis=0)
    local = np.column_stack([flat, ball.vertices[:, 2] * half[0]])
    return _placed(local, np.asarray(ball.faces), camera)


def carved(masks: np.ndarray, cameras: tuple[Camera, ...], nodes: int = 96) -> Mesh:
    """What (N, S, S) bool silhouettes leave of a block: the visual hull on a cubic grid.

    Marching cubes on the largest of the signed distances to the N outlines.
    """
    axis = np.linspace(-1.06, 1.06, nodes)
    grid = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    field = np.full(len(grid), -np.inf)
    for mask, camera in zip(masks, cameras, strict=True):
        pixels, _ = camera.project(grid, len(mask))
        at = [pixels[:, 1] - 0.5, pixels[:, 0] - 0.5]
        seen = map_coordinates(_signed_distance(mask), at, order=1, mode="nearest")
        field = np.maximum(field, seen)
    shape = np.pad(field.reshape((nodes,) * 3), 1, constant_values=float(masks.shape[1]))
    vertices, faces, _, _ = marching_cubes(-shape, 0.0)
    step = axis[1] - axis[0]
    return _closed((vertices - 1.0) * step + axis[0], faces)


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    """(S, S) float64 pixels to the outline, negative inside."""
    return distance_transform_edt(~mask) - distance_transform_edt(mask) + np.where(mask, 0.5, -0.5)


def _placed(local: np.ndarray, faces: np.ndarray, camera: Camera) -> Mesh:
    """Camera axes to frame W; scale and place are left to box normalisation."""
    return _closed(local @ camera.axes.T, faces)


def _closed(vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    shape = trimesh.Trimesh(vertices, faces)
    if shape.volume < 0.0:
        shape.invert()
    return Mesh(np.asarray(shape.vertices, np.float32), np.asarray(shape.faces, np.int32))
