"""A true mesh blurred: near the truth but round-edged, like what a feed-forward model gives."""

from __future__ import annotations

import numpy as np
import trimesh
from scipy.ndimage import gaussian_filter
from skimage.measure import marching_cubes

from stages.contract import Mesh
from stages.geometry.jit import kernel

EXTENT = 1.06
NODES = 80
"""Of the cubic grid that the surface is read off."""
FINER = 3
"""Cells of the finer grid, which the solid is drawn into, along one of those."""
BLUR = 0.8
"""Sigma of the Gaussian, in cells of the coarser grid."""


def blurred(mesh: Mesh) -> Mesh:
    """Voxels of a closed mesh, blurred, and the surface where half of them is left.

    Parts may overlap; a point inside any of them is inside.
    """
    step = 2.0 * EXTENT / (NODES * FINER)
    # The odd share of a cell keeps the lines off the edges of boxes.
    axis = -EXTENT + (np.arange(NODES * FINER) + 0.5 + 1e-4 * np.pi) * step
    entered = np.zeros((len(axis), len(axis), len(axis) + 1), np.int16)
    _count_crossings(mesh.vertices.astype(np.float64)[mesh.faces], axis[0], step, entered)
    solid = np.cumsum(entered, axis=2)[..., :-1] > 0
    soft = gaussian_filter(solid.astype(np.float32), BLUR * FINER)
    first = FINER // 2
    coarse = soft[first::FINER, first::FINER, first::FINER]
    vertices, faces, _, _ = marching_cubes(coarse, 0.5)
    shape = trimesh.Trimesh(axis[first] + vertices * step * FINER, faces)
    if shape.volume < 0.0:
        shape.invert()
    return Mesh(np.asarray(shape.vertices, np.float32), np.asarray(shape.faces, np.int32))


@kernel
def _count_crossings(corners: np.ndarray, origin: float, step: float, entered: np.ndarray) -> None:
    """Lines along z through a cubic grid: at the first node behind a surface, +1 for each that is
    entered there and -1 for each that is left."""
    last = entered.shape[0] - 1
    for t in range(corners.shape[0]):
        ax, ay, az = corners[t, 0]
        bx, by, bz = corners[t, 1]
        cx, cy, cz = corners[t, 2]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0:
            continue
        left = max(0, int(np.ceil((min(ax, bx, cx) - origin) / step)))
        right = min(last, int(np.floor((max(ax, bx, cx) - origin) / step)))
        low = max(0, int(np.ceil((min(ay, by, cy) - origin) / step)))
        high = min(last, int(np.floor((max(ay, by, cy) - origin) / step)))
        for i in range(left, right + 1):
            x = origin + i * step
            for j in range(low, high + 1):
                y = origin + j * step
                u = ((bx - x) * (cy - y) - (by - y) * (cx - x)) / area
                v = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) / area
                if u < 0.0 or v < 0.0 or u + v > 1.0:
                    continue
                z = u * az + v * bz + (1.0 - u - v) * cz
                k = min(max(int(np.ceil((z - origin) / step)), 0), last + 1)
                entered[i, j, k] += -1 if area > 0.0 else 1
