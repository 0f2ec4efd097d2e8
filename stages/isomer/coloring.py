"""From a bundle's RGB tiles to vertex colours: masks, views, visibility, projection, completion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stages.contract import BadInput
from stages.geometry.cameras import Camera, bundle_cameras
from stages.geometry.masks import mask_fix, spread_colors
from stages.geometry.numpy_edges import find_edges
from stages.geometry.raster import Rasterizer, visible_faces
from stages.geometry.raster.cpu import CpuRasterizer
from stages.geometry.threads import in_threads
from stages.isomer.color_params import ColorParams
from stages.isomer.completion import complete, fill_islands
from stages.isomer.projection import Evidence, View, gather, overwrite
from stages.isomer.visibility import by_depth, by_faces, feather, window_depth


@dataclass(frozen=True)
class Coloring:
    """Colours of a mesh' vertices, and which views they may come from.

    colors   (V, 3) uint8 sRGB
    seen     (K, V) float64 in [0, 1], how far view k counts near a vertex
    nearest  (K, R, R) float32, for visibility by depth: the `window_depth` of each view; else None
    """

    colors: np.ndarray
    seen: np.ndarray
    nearest: np.ndarray | None


def color_views(
    rgb: np.ndarray, mask: np.ndarray, params: ColorParams, threads: int = 1
) -> list[View]:
    """The four pictures as they are projected; the same for any number of threads.

    rgb (4, S, S, 3) float in [0, 1]; mask (4, S, S) bool.
    """
    if params.outline == "spread":
        images = np.concatenate(
            in_threads(
                lambda k: spread_colors(rgb[k : k + 1], mask[k : k + 1], params.outline_margin),
                range(len(rgb)),
                threads,
            )
        )
    else:
        images = np.where(mask[..., None], rgb, 1.0)
    alpha = mask_fix(mask.astype(np.float64), -params.mask_erode, params.mask_blur)
    cameras = bundle_cameras(params.radius)
    return [View(*parts) for parts in zip(cameras, images, alpha, params.view_weights, strict=True)]


def color_vertices(
    vertices: np.ndarray,
    faces: np.ndarray,
    normals: np.ndarray,
    views: list[View],
    rasterizer: Rasterizer,
    params: ColorParams,
    threads: int = 1,
) -> Coloring:
    """Colour the vertices of a mesh in frame W; the same for any number of threads.

    Raises BadInput when no view sees any of it.
    """
    edges = find_edges(faces, len(vertices)).ends
    clips = [view.camera.to_clip(vertices) for view in views]
    shots = _drawn(clips, faces, params.raster_size, rasterizer, threads)

    def look(number: int) -> tuple[np.ndarray, np.ndarray | None]:
        camera = views[number].camera
        seen, nearest = _seen(vertices, faces, normals, camera, *shots[number], params)
        return feather(seen, edges, params.feather), nearest

    found = in_threads(look, range(len(views)), threads)
    visible = np.stack([seen for seen, _ in found])
    power = 2.0 if params.cosine == "square" else 1.0
    evidence = gather(vertices, normals, views, visible, power, params.view_direction)
    if not (evidence.weight > 0.0).any():
        raise BadInput(
            "no view shows any part of the mesh",
            f"check that the bundle was rendered from distance {params.radius:g} and that bundle "
            "and mesh belong together",
        )
    base = np.zeros_like(evidence.value)
    if params.base_color == "overwritten":
        base = overwrite(base, vertices, views, visible)
    colors = _finish(evidence, base, vertices, edges, params)
    depths = [nearest for _, nearest in found if nearest is not None]
    return Coloring(
        np.rint(np.clip(colors, 0.0, 1.0) * 255.0).astype(np.uint8),
        visible,
        np.stack(depths) if depths else None,
    )


def _drawn(
    clips: list[np.ndarray],
    faces: np.ndarray,
    size: int,
    rasterizer: Rasterizer,
    threads: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`Fragments.pix_to_face` and `Fragments.depth` of each view, size x size."""
    if isinstance(rasterizer, CpuRasterizer):
        return in_threads(lambda clip: rasterizer.nearest(clip, faces, size), clips, threads)
    shots = (rasterizer.rasterize(clip, faces, (size, size)) for clip in clips)
    return [(shot.pix_to_face, shot.depth) for shot in shots]


def _seen(
    vertices: np.ndarray,
    faces: np.ndarray,
    normals: np.ndarray,
    camera: Camera,
    pix_to_face: np.ndarray,
    depth: np.ndarray,
    params: ColorParams,
) -> tuple[np.ndarray, np.ndarray | None]:
    """(V,) bool: what a view sees, and the `Coloring.nearest` that says so."""
    if params.visibility == "faces":
        ids = visible_faces(pix_to_face)
        return by_faces(vertices, faces, camera, ids, params.min_cosine), None
    margin = params.occlusion_margin
    nearest = window_depth(depth, margin)
    seen = by_depth(
        vertices, normals, camera, nearest, params.min_cosine, margin, params.view_direction
    )
    return seen, nearest


def _finish(
    evidence: Evidence,
    base: np.ndarray,
    vertices: np.ndarray,
    edges: np.ndarray,
    params: ColorParams,
) -> np.ndarray:
    """(V, 3) colours for all vertices, also for those that are hardly or never seen.

    base (V, 3): what hardly seen ones slide to where nothing grows over them.
    """
    threshold = params.weight_threshold
    seen = evidence.blend(base, threshold)
    known = evidence.weight >= threshold
    if params.completion == "none":
        return seen
    if params.completion == "replace":
        return complete(seen, known, edges)
    if not known.any():
        known = evidence.weight > 0.0
    grown, known = fill_islands(evidence.mean(), known, vertices, edges)
    grown = complete(grown, known, edges)
    return evidence.blend(grown, threshold)
