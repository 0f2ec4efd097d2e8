"""Bundle -> coarse mesh."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stages.common.bundle import split
from stages.common.cameras import bundle_cameras
from stages.contract import BadInput, Mesh
from stages.lrm.hull.field import Fusion, Level
from stages.lrm.hull.observe import observe
from stages.lrm.hull.params import ReconstructParams
from stages.lrm.hull.silhouettes import clean, coverage, signed_distance
from stages.lrm.hull.surface import extract

MIN_TILE = 64


def reconstruct(
    bundle: np.ndarray,
    params: ReconstructParams,
    threads: int,
    progress: Callable[[int, int], None],
) -> Mesh:
    """(2 S, 4 S, 3) float32 in [0, 1] -> a closed mesh in frame W.

    Raises BadInput if the layout is another, a normal tile is empty, or the silhouettes do not
    fit together.
    """
    try:
        _, normals = split(bundle)
    except ValueError as error:
        raise BadInput(str(error), "two rows of four square tiles, RGB above normals") from None
    if normals.shape[1] < MIN_TILE:
        raise BadInput(f"tiles of {normals.shape[1]} pixels are too small, {MIN_TILE} is the least")
    return mesh_from_normals(normals, clean(coverage(normals)), params, threads, progress)


def mesh_from_normals(
    normals: np.ndarray,
    cover: np.ndarray,
    params: ReconstructParams,
    threads: int,
    progress: Callable[[int, int], None],
) -> Mesh:
    """(4, S, S, 3) normal tiles and (4, S, S) coverage -> a closed mesh in frame W."""
    seen = observe(signed_distance(cover), normals, bundle_cameras(params.radius))
    fusion = Fusion(seen, threads)
    try:
        field, grid = fusion.run(_levels(params.resolution), progress)
        return extract(field, grid, params.max_faces, params.smoothing, params.min_part)
    except ValueError as error:
        raise BadInput(
            f"no object fits into the four silhouettes: {error}",
            "the tiles must show one object from four sides, at one scale; look at the bundle",
        ) from error
    finally:
        fusion.close()


def rehearse(threads: int) -> None:
    """Compile the loops over voxels, on a small disc seen from four sides.

    Takes seconds at a machine's first start and milliseconds later. Stages call it when they load,
    which is while their input is still being computed.
    """
    across = np.linspace(-1.0, 1.0, MIN_TILE)
    disc = (np.hypot(across, across[:, None]) < 0.5).astype(np.float32)
    cover = np.stack([disc] * 4)
    normals = np.where(cover[..., None] > 0.0, np.array([0.5, 0.5, 1.0]), 1.0)
    seen = observe(signed_distance(cover), normals, bundle_cameras())
    fusion = Fusion(seen, threads)
    try:
        fusion.run((Level(8, 1),), lambda step, total: None)
    finally:
        fusion.close()


def _levels(finest: int) -> tuple[Level, ...]:
    """Most of the way is made where it is cheap: a round moves the surface by a few voxels."""
    coarser = (Level(32, 12), Level(64, 6))
    return (*(level for level in coarser if level.nodes < 0.8 * finest), Level(finest, 3))
