"""Scores of a mesh as a bundle's cameras see it: silhouettes, normal maps, colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.contract import Mesh
from stages.geometry.cameras import Camera, decode_normals
from stages.geometry.raster import Rasterizer, interpolate
from stages.geometry.render import coverage, look, normal_tile, resolve, vertex_normals

VIEW_SAMPLES = 3
"""Sample points a pixel, each way."""


@dataclass(frozen=True)
class Views:
    """What N cameras see, S pixels a side.

    cameras  N of them
    mask     (N, S, S) bool, more than half of the pixel covered
    normals  (N, S, S, 3) float32 in [0, 1], bundle encoding on white
    rgb      (N, S, S, 3) float32 in [0, 1] sRGB on white, or None
    """

    cameras: tuple[Camera, ...]
    mask: np.ndarray
    normals: np.ndarray
    rgb: np.ndarray | None = None


@dataclass(frozen=True)
class ViewScores:
    """All views together. PSNR in dB with peak 1; "union" and "inner" are the pixels in either and
    in both silhouettes.

    iou                per view, in the order of the cameras
    mean_iou           their mean
    normal_psnr        of the normal maps over the union
    normal_psnr_inner  the same over the intersection
    normal_angle       mean angle in degrees between the normals over the intersection
    rgb_psnr           over the union; None where one side has no colours, as the next two
    rgb_psnr_inner     over the intersection
    rgb_psnr_tile      over whole tiles, background included
    """

    iou: tuple[float, ...]
    mean_iou: float
    normal_psnr: float
    normal_psnr_inner: float
    normal_angle: float
    rgb_psnr: float | None
    rgb_psnr_inner: float | None
    rgb_psnr_tile: float | None


def view_mesh(
    mesh: Mesh,
    cameras: Sequence[Camera],
    size: int,
    rasterizer: Rasterizer,
    samples: int = VIEW_SAMPLES,
) -> Views:
    """Draw smooth vertex normals, and vertex colours unlit where the mesh has them."""
    vertex = vertex_normals(mesh.vertices, mesh.faces)
    masks, normals, rgb = [], [], []
    for camera in cameras:
        seen = look(mesh.vertices, mesh.faces, camera, size, samples, rasterizer)
        masks.append(coverage(seen, samples) > 0.5)
        normals.append(normal_tile(seen, mesh.faces, vertex, camera, samples))
        if mesh.colors is not None:
            colors = mesh.colors.astype(np.float32) / np.float32(255.0)
            rgb.append(resolve(interpolate(seen, mesh.faces, colors), seen, samples))
    return Views(tuple(cameras), np.stack(masks), np.stack(normals), np.stack(rgb) if rgb else None)


def compare_views(views: Views, truth: Views) -> ViewScores:
    """Score what is seen of a mesh against what should be seen, by the same cameras."""
    union, inner = views.mask | truth.mask, views.mask & truth.mask
    iou = silhouette_iou(views.mask, truth.mask)
    return ViewScores(
        iou=tuple(iou.tolist()),
        mean_iou=float(iou.mean()),
        normal_psnr=psnr(views.normals, truth.normals, union),
        normal_psnr_inner=psnr(views.normals, truth.normals, inner),
        normal_angle=_normal_angle(views, truth, inner),
        rgb_psnr=_rgb_psnr(views, truth, union),
        rgb_psnr_inner=_rgb_psnr(views, truth, inner),
        rgb_psnr_tile=_rgb_psnr(views, truth, np.ones_like(union)),
    )


def silhouette_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, S, S) bool masks -> (N,) overlap over union, 1 where both are empty."""
    union = (a | b).sum(axis=(1, 2))
    return np.where(union > 0, (a & b).sum(axis=(1, 2)) / np.maximum(union, 1), 1.0)


def psnr(image: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    """dB between two (..., C) images in [0, 1] over the pixels of `where` (...,) bool.

    inf for equal images, NaN where there are no pixels.
    """
    difference = image[where].astype(np.float64) - truth[where]
    if not difference.size:
        return float("nan")
    error = float(np.mean(difference**2))
    return float(-10.0 * np.log10(error)) if error else float("inf")


def _rgb_psnr(views: Views, truth: Views, where: np.ndarray) -> float | None:
    if views.rgb is None or truth.rgb is None:
        return None
    return psnr(views.rgb, truth.rgb, where)


def _normal_angle(views: Views, truth: Views, where: np.ndarray) -> float:
    total, count = 0.0, 0
    for i, camera in enumerate(truth.cameras):
        pixels = where[i]
        a, b = (
            decode_normals(tiles[i][pixels], camera) for tiles in (views.normals, truth.normals)
        )
        cosine = np.clip((a * b).sum(axis=1), -1.0, 1.0)
        total += float(np.degrees(np.arccos(cosine)).sum())
        count += len(cosine)
    return total / count if count else float("nan")
