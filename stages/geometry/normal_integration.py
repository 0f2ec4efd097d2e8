"""A depth map sharpened by a normal map of the same picture.

Normals tell how depth changes from pixel to pixel, but not across an edge behind which the object
goes on further away; a depth map tells both, less exactly. The result z minimises

    sum over neighbours  w (z_j - z_i - g_ij)^2  +  sum over pixels  a (z_i - z0_i)^2,

g being the step that the normals ask for (central projection: Durou et al., "Normal Integration: A
Survey", J. Math. Imaging Vis. 60, 2018), z0 the depth map, and w falling where z0 steps otherwise
(Geman and McClure's weight), so that real steps stay.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

GRAZING = 0.12
"""Least cosine between a normal and the ray: steeper surfaces are taken for this steep."""
JUMP = 1.5
"""Difference of slopes, depth by width, from which an edge counts as a step."""


def integrate_normals(
    depth: np.ndarray, normals: np.ndarray, inside: np.ndarray, focal: float, anchor: np.ndarray
) -> np.ndarray:
    """(S, S) float64: `depth` as smooth and as detailed as the normals say; unchanged outside.

    depth    (S, S) towards the camera, in half widths of the picture, 0 where half the picture is 1
    normals  (S, S, 3) unit, camera axes: x right, y up, z towards the camera
    inside   (S, S) bool, pixels that belong to the object
    focal    distance of the camera in half widths
    anchor   (S, S) a of the formula: at 1 depth and normals weigh alike over a few pixels
    """
    size = len(depth)
    if not inside.any():
        return depth.astype(np.float64)
    right, down = _slopes(depth, normals, focal)
    step = 2.0 / size
    index = np.full(inside.shape, -1, np.int64)
    count = int(inside.sum())
    index[inside] = np.arange(count)
    pairs = []
    for both, here, there, slope in (
        (inside[:, :-1] & inside[:, 1:], np.s_[:, :-1], np.s_[:, 1:], right),
        (inside[:-1] & inside[1:], np.s_[:-1], np.s_[1:], down),
    ):
        wanted = (slope[here] + slope[there])[both] * (step / 2.0)
        pairs.append((index[here][both], index[there][both], wanted))
    first, second, wanted = (np.concatenate(column) for column in zip(*pairs, strict=True))

    start = depth[inside].astype(np.float64)
    off = (start[second] - start[first] - wanted) / (step * JUMP)
    weight = 1.0 / (1.0 + off**2) ** 2
    pull = anchor[inside].astype(np.float64)
    rows, columns = np.concatenate([first, second]), np.concatenate([second, first])
    links = sp.csc_matrix((np.tile(-weight, 2), (rows, columns)), shape=(count, count))
    ends = np.bincount(first, weight, count) + np.bincount(second, weight, count)
    right_side = pull * start
    right_side += np.bincount(second, weight * wanted, count)
    right_side -= np.bincount(first, weight * wanted, count)
    factor = spla.splu(
        links + sp.diags(ends + pull, format="csc"),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    result = depth.astype(np.float64)
    result[inside] = factor.solve(right_side)
    return result


def _slopes(depth: np.ndarray, normals: np.ndarray, focal: float) -> tuple[np.ndarray, np.ndarray]:
    """(S, S) each: change of depth by a half width to the right, and by one downwards."""
    size = len(depth)
    at = (np.arange(size) + 0.5) * 2.0 / size - 1.0
    along, up = np.meshgrid(at, -at)
    x, y, z = np.moveaxis(normals.astype(np.float64), -1, 0)
    # The point of a pixel is ((1 - d / f) u, (1 - d / f) v, d); its derivative is in the surface.
    facing = np.maximum(z - (along * x + up * y) / focal, GRAZING)
    near = 1.0 - depth / focal
    return -near * x / facing, near * y / facing
