"""The fine mesh's shading on the reduced one, as glTF 2.0 wants it.

The normal of a texel is x T + y B + z N with N and T the vertex normal and tangent, interpolated,
and B = N x T times the tangent's fourth number; x points right in the picture and y up (glTF 2.0,
"Meshes" and "material.normalTexture"). Charts are never mirrored, so that number is 1.
"""

from __future__ import annotations

import numpy as np

from stages.contract import Mesh
from stages.geometry.raster import interpolate
from stages.isomer.texture.bake import spread
from stages.isomer.texture.unwrap import Unwrapped

NEIGHBOURS = 4


def tangents(normals: np.ndarray, cut: Unwrapped) -> np.ndarray:
    """(U, 4) float32: the unit tangent in which u grows, and 1.

    normals (U, 3). On a surface with normal n that is projected along d, the point moves by
    r - (r . n / d . n) d as u grows; where n faces away from d, which a smooth normal may, by r.
    """
    normal = normals.astype(np.float64)
    facing = np.einsum("uc,uc->u", normal, cut.toward)
    slope = np.einsum("uc,uc->u", normal, cut.across) / np.maximum(facing, 0.05)
    along = cut.across - np.where(facing > 0.05, slope, 0.0)[:, None] * cut.toward
    along -= np.einsum("uc,uc->u", along, normal)[:, None] * normal
    length = np.linalg.norm(along, axis=1, keepdims=True)
    # A normal that points along u leaves nothing: any direction across it will do.
    spare = np.cross(normal, np.eye(3)[np.abs(normal).argmin(axis=1)])
    spare /= np.linalg.norm(spare, axis=1, keepdims=True)
    along = np.where(length > 1e-6, along / np.maximum(length, 1e-6), spare)
    return np.concatenate([along, np.ones((len(along), 1))], axis=1).astype(np.float32)


def bake_normals(
    mesh: Mesh,
    normals: np.ndarray,
    cut: Unwrapped,
    along: np.ndarray,
    fine: Mesh,
    fine_normals: np.ndarray,
    threads: int,
) -> np.ndarray:
    """(size, size, 3) uint8, (n + 1) / 2 of the fine mesh's normal nearest to each texel.

    mesh, normals (V, 3): what was unwrapped; along (U, 4), its `tangents`; fine_normals (W, 3)
    """
    from scipy.spatial import KDTree

    shown = cut.fragments
    covered = shown.covered
    points = interpolate(shown, mesh.faces, mesh.vertices)[covered]
    count = min(NEIGHBOURS, len(fine.vertices))
    away, near = KDTree(fine.vertices).query(points, k=list(range(1, count + 1)), workers=threads)
    ours = _unit(interpolate(shown, mesh.faces, normals)[covered])
    theirs = fine_normals[near]
    # Vertices on the other side of a thin part do not count.
    weight = 1.0 / np.maximum(away, 1e-6) ** 2
    weight = weight * (np.einsum("nkc,nc->nk", theirs, ours) > 0.0)
    wanted = np.einsum("nk,nkc->nc", weight, theirs)
    wanted = np.where(weight.any(axis=1)[:, None], _unit(wanted), ours)
    return in_tangent_space(mesh, normals, cut, along, wanted)


def in_tangent_space(
    mesh: Mesh, normals: np.ndarray, cut: Unwrapped, along: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """(size, size, 3) uint8, (n + 1) / 2 of normals `wanted` (n, 3), one a covered texel.

    The rest as in `bake_normals`.
    """
    shown = cut.fragments
    covered = shown.covered
    ours = _unit(interpolate(shown, mesh.faces, normals)[covered])
    tangent = _unit(interpolate(shown, cut.faces, along[:, :3])[covered])
    upward = np.cross(ours, tangent)
    local = [np.einsum("nc,nc->n", wanted, axis) for axis in (tangent, upward, ours)]
    local[2] = np.maximum(local[2], 0.0)
    picture = np.zeros((*covered.shape, 3), np.uint8)
    encoded = (_unit(np.stack(local, axis=1)) + 1.0) / 2.0
    picture[covered] = np.rint(np.clip(encoded, 0.0, 1.0) * 255.0).astype(np.uint8)
    return spread(picture, covered)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12))
