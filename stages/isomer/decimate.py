"""Fewer faces, the same surface: quadric edge collapse, and the repair of what it breaks.

The package fast-simplification collapses edges after Garland and Heckbert, "Surface simplification
using quadric error metrics" (SIGGRAPH 1997), in sweeps under a rising limit of the error. It does
not ask whether a collapse keeps the surface a surface: on a crumpled one it folds a few faces onto
each other, or lets sheets touch. Both are mended here, so that what was closed stays closed and no
edge has more than two faces, whoever joins the vertices of one place.
"""

from __future__ import annotations

import numpy as np

from stages.isomer.repair import moved_apart, repair

PATIENCE = (3.0, 7.0)
"""How fast that limit rises. Slowly first: 100,000 faces of three objects reduced to 30,000 lay 2.4
times nearer to the original than with 7, which the package takes by itself. But a slow rise may end
above the wanted number of faces."""


def decimate(
    vertices: np.ndarray, faces: np.ndarray, target_faces: int
) -> tuple[np.ndarray, np.ndarray]:
    """Collapse edges until no more than `target_faces` are left; a smaller mesh is returned as it
    is, and so is one of which nothing would be left.

    vertices (V, 3) float, faces (F, 3) int; returns vertices (V', 3) float64 and faces (F', 3)
    int32. Parts that are much smaller than a face of the result vanish.
    """
    import fast_simplification

    from stages.geometry.numpy_edges import compact

    points = np.array(vertices, np.float64)
    if len(faces) <= target_faces:
        return points, faces
    triangles = np.ascontiguousarray(faces, np.int32)
    for speed in PATIENCE:
        left, reduced = fast_simplification.simplify(
            points, triangles, target_count=target_faces, agg=speed
        )[:2]
        if len(reduced) <= target_faces:
            break
    reduced = _without_folded(np.asarray(reduced))
    if not len(reduced):
        return points, faces
    points, triangles = repair(np.asarray(left, np.float64), reduced, "split")
    points, triangles = compact(points, _without_flat(points, triangles))
    return moved_apart(points, triangles), triangles


def _without_flat(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Faces (F', 3) of a closed mesh without its flat parts, what a pinched rim leaves behind."""
    from stages.geometry.mesh_parts import in_flat_parts
    from stages.geometry.numpy_edges import find_edges

    if find_edges(faces, len(vertices)).on_border.any():
        return faces
    flat, _ = in_flat_parts(vertices, faces)
    return faces if flat.all() else faces[~flat]


def _without_folded(faces: np.ndarray) -> np.ndarray:
    """Faces (F', 3) int32 without those that lie on each other: two over the same three corners
    enclose nothing, and their neighbours close up when both are gone. Of an odd number one stays.
    """
    corners = np.sort(faces, axis=1)
    _, first, group, count = np.unique(
        corners, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    keep = (count == 1)[group.reshape(-1)]
    keep[first[count % 2 == 1]] = True
    return faces[keep].astype(np.int32)
