"""Bundle -> coarse mesh."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stages.contract import BadInput, Mesh
from stages.geometry.bundle import split
from stages.lrm.prm.field import TriplaneField
from stages.lrm.prm.masks import Matting, silhouettes
from stages.lrm.prm.model import Prm
from stages.lrm.prm.params import ReconstructParams
from stages.lrm.prm.surface import mesh_of, read_views

STEPS = 4
"""The last is the stage's own: a texture, if it is wanted."""


def reconstruct(
    bundle: np.ndarray,
    model: Prm,
    matting: Matting | None,
    params: ReconstructParams,
    progress: Callable[[int, int, str], None],
) -> tuple[Mesh, np.ndarray, TriplaneField]:
    """(2 S, 4 S, 3) float32 in [0, 1] -> the model's mesh with vertex colours, frame W.

    Also returns the silhouettes that the colours were cut out with, (4, S, S) bool, and the field,
    whose colours can be asked for anywhere.
    Raises BadInput if the layout is another or the normal tiles are blank, and as `mesh_of`.
    """
    try:
        rgb, normals = split(bundle)
    except ValueError as error:
        raise BadInput(str(error), "two rows of four square tiles, RGB above normals") from None
    progress(0, STEPS, f"find the object ({'u2net' if matting else 'on white'})")
    # The silhouettes of the normal tiles, as in the reference: where those of the RGB tiles differ,
    # background gets in or object is lost.
    mask = silhouettes(normals, matting, params.background_tolerance)
    if not mask.any():
        raise BadInput(
            "bundle: no object stands out in its normal tiles",
            "look at bundle.png; mask=white, or a lower background_tolerance, may find it",
        )
    progress(1, STEPS, "read views")
    on_white = np.where(mask[..., None], rgb, np.float32(1.0))
    field = read_views(model, on_white, params.chunk_points)
    progress(2, STEPS, "extract mesh")
    return mesh_of(field, params), mask, field
