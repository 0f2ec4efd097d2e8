"""A body from the outlines of front and sides: as deep as the sides say.

The outlines that are not given are those of the hull of the given ones. Each of the four is
inflated for a guess of its normals where the network has not told them, and they are fused within
the hull, as hull.reference does with views that come without normals.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from stages.contract import BadInput, Mesh
from stages.geometry.cameras import bundle_cameras
from stages.geometry.normal_fusion.field import Fusion, Grid
from stages.geometry.normal_fusion.guess import inflated
from stages.geometry.normal_fusion.observe import observe
from stages.geometry.normal_fusion.params import ReconstructParams
from stages.geometry.normal_fusion.reconstruct import mesh_from_normals
from stages.geometry.normal_fusion.surface import extract
from stages.geometry.raster import Rasterizer
from stages.geometry.render import coverage, look
from stages.geometry.silhouettes import clean, signed_distance

SAMPLES = 2
"""Sample points a pixel each way, of the hull's outlines."""
FACES = 200_000
"""Of the hull at most."""


def solid_body(
    covers: Mapping[int, np.ndarray],
    resolution: int,
    rasterizer: Rasterizer,
    threads: int,
    told: Mapping[int, np.ndarray] | None = None,
) -> Mesh:
    """Closed, in frame W, without colours.

    covers      view (0 front, 1 left, 2 back, 3 right) -> (S, S) coverage in [0, 1]; the front and
                a side at least
    resolution  voxels along the longest side
    told        view -> (S, S, 3) normals in the bundle's encoding, of as many as are known

    Raises BadInput if no body has these outlines.
    """
    whole = with_hull_outlines(covers, resolution, rasterizer, threads)
    whole = clean(whole)
    cameras = bundle_cameras()
    known = told or {}
    guess = np.stack(
        [
            known[view] if view in known else inflated(whole[view], camera)
            for view, camera in enumerate(cameras)
        ]
    )
    params = ReconstructParams(resolution=resolution)
    return mesh_from_normals(guess, whole, params, threads, lambda step, total: None)


def with_hull_outlines(
    covers: Mapping[int, np.ndarray], resolution: int, rasterizer: Rasterizer, threads: int
) -> np.ndarray:
    """(4, S, S) float32: `covers`, and for views that they lack what is seen of their hull."""
    cameras = bundle_cameras()
    if len(covers) == len(cameras):
        return np.stack([covers[view] for view in range(len(cameras))]).astype(np.float32)
    known = sorted(covers)
    size = len(covers[0])
    stack = np.stack([covers[view] for view in known]).astype(np.float32)
    seen = observe(
        signed_distance(stack),
        np.ones((*stack.shape, 3), np.float32),
        tuple(cameras[view] for view in known),
    )
    fusion = Fusion(seen, threads)
    try:
        low, high = fusion.bounds
        grid = Grid.around(low, high, resolution)
        hull = extract(fusion.carve(grid), grid, FACES, 0, 0.0)
    except ValueError as error:
        raise BadInput(
            f"no object fits to the outlines of the given pictures: {error}",
            "they must show one object, upright, from its front and its sides",
        ) from error
    finally:
        fusion.close()
    whole = []
    for view, camera in enumerate(cameras):
        if view in covers:
            whole.append(covers[view])
            continue
        seen_hull = look(hull.vertices, hull.faces, camera, size, SAMPLES, rasterizer)
        whole.append(coverage(seen_hull, SAMPLES))
    return np.stack(whole).astype(np.float32)
