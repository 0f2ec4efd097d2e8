"""Bundle -> coarse mesh."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from stages.contract import BadInput, Mesh
from stages.geometry.bundle import split
from stages.geometry.cameras import bundle_cameras
from stages.geometry.normal_fusion.field import Fusion, Grid, Level
from stages.geometry.normal_fusion.observe import Observations, observe
from stages.geometry.normal_fusion.params import ReconstructParams
from stages.geometry.normal_fusion.surface import extract
from stages.geometry.silhouettes import clean, coverage, signed_distance, thinnest_part

MIN_TILE = 64
VOXELS_ACROSS = 3.0
"""Voxels that a thin part should be wide."""
CELLS = 600_000
"""Voxels up to which they are made smaller than `resolution` says: about as many as an object that
fills half of its box has anyway, so that no picture takes longer than those."""
COARSEST_VOXEL = 1.5
"""Voxel of a coarser level, of a thin part's width."""
COARSER = (Level(32, 12), Level(64, 6))
"""Most of the way is made where it is cheap: a round moves the surface by a few voxels."""
ALONE_ROUNDS = 8


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
    distance = signed_distance(cover, threads)
    seen = observe(distance, normals, bundle_cameras(params.radius), threads)
    fusion = Fusion(seen, threads)
    try:
        field, grid = fusion.run(_plan_levels(fusion, seen, params), progress)
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


def _plan_levels(
    fusion: Fusion, seen: Observations, params: ReconstructParams
) -> tuple[Level, ...]:
    """Voxels that the object's thin parts can be seen in, as far as `CELLS` go.

    A sword fills little of its box, so its voxels may be small; a tree has to do with the others.
    """
    low, high = fusion.bounds
    camera = bundle_cameras(params.radius)[0]
    tile = seen.distance.shape[1]
    pixel = 2.0 * params.radius / (camera.focal * tile)
    thin = thinnest_part(seen.distance) * pixel
    longest = float((high - low).max())
    finest = params.resolution
    wanted = min(round(VOXELS_ACROSS * longest / thin), tile)
    while finest < wanted and np.prod(Grid.around(low, high, finest + 8).shape) <= CELLS:
        finest += 8
    # Where a thin part falls between the nodes nothing of it comes through to the next level.
    coarser = [level for level in COARSER if level.nodes < 0.8 * finest]
    kept = [level for level in coarser if longest / level.nodes < COARSEST_VOXEL * thin]
    return (*kept, Level(finest, 3 if kept else ALONE_ROUNDS))
