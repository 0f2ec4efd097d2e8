"""Whether a mesh is in more pieces than the pictures that it was made of."""

from __future__ import annotations

import cv2
import numpy as np

from stages.contract import Mesh
from stages.geometry.bundle import split
from stages.geometry.mesh_parts import part_of_faces
from stages.geometry.silhouettes import clean, coverage

SPECK = 0.002
"""Share of a silhouette's area below which a piece of it does not count."""


def fallen_apart(mesh: Mesh, bundle: np.ndarray) -> str:
    """A warning if the mesh is in more pieces than any view of its (2 S, 4 S, 3) bundle shows, else
    "". Pieces may hide behind each other in a view, but hardly in all of them."""
    made, shown = mesh_pieces(mesh), silhouette_pieces(clean(coverage(split(bundle)[1])))
    if made <= shown:
        return ""
    views = "one" if shown == 1 else f"{shown}"
    return (
        f"the mesh is in {made} pieces where the views show {views}: thin parts broke where the "
        "views do not agree about them; pictures from the same height and distance agree better"
    )


def mesh_pieces(mesh: Mesh) -> int:
    """How many closed surfaces without a common vertex."""
    return len(np.unique(part_of_faces(mesh.faces, len(mesh.vertices))))


def silhouette_pieces(cover: np.ndarray) -> int:
    """(V, S, S) coverage in [0, 1] -> the most pieces that one of the views shows."""
    found = [1]
    for view in cover:
        shown = (view > 0.5).astype(np.uint8)
        count, _, stats, _ = cv2.connectedComponentsWithStats(shown, connectivity=8)
        areas = stats[1:count, cv2.CC_STAT_AREA]
        found.append(int((areas > SPECK * max(int(shown.sum()), 1)).sum()))
    return max(found)
