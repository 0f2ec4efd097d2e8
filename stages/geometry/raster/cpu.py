"""The CPU backend: a z-buffer in numba kernels, one Python thread a band of rows."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from stages.geometry.jit import plain_array
from stages.geometry.raster import kernels
from stages.geometry.raster.interface import Fragments
from stages.geometry.raster.triangles import Triangles, check, laid_out, set_up
from stages.geometry.threads import in_threads

if TYPE_CHECKING:
    from torch import Tensor

BANDS_PER_THREAD = 4
"""Objects sit in the middle rows: more bands than threads keep all of them busy."""
LEAST_ROWS = 32
"""Of a band: handing one over costs 0.05 ms, and each looks at all faces. On two cores 20,480 faces
at 512 x 512 took 7.9 ms in 64 bands and 6.4 ms in 16."""


class CpuRasterizer:
    """Exact coverage, deterministic, the same result for any number of threads.

    81,920 faces at 512 x 512 take about 8 ms on two cores. Safe to use after a fork: threads are
    started on first use and again in a forked child.
    """

    name = "cpu"

    def __init__(self, threads: int = 2) -> None:
        self.threads = max(1, min(threads, 16))
        self._pool: ThreadPoolExecutor | None = None
        self._pool_owner = 0
        self._opening = Lock()

    def rasterize(self, clip: np.ndarray, faces: np.ndarray, size: tuple[int, int]) -> Fragments:
        """See `Rasterizer.rasterize`. Raises ValueError for shapes that cannot be drawn."""
        mesh = set_up(clip, faces, size)
        height, width = size
        pix_to_face = np.full((height, width), -1, np.int32)
        inverse_depth = np.zeros((height, width), np.float64)
        barycentrics = np.empty((height, width, 3), np.float32)
        depth = np.empty((height, width), np.float32)

        def band(top: int, bottom: int) -> None:
            kernels.draw(
                mesh.clip, mesh.faces, mesh.screen, mesh.corners, mesh.owners, mesh.rows,
                top, bottom, inverse_depth, pix_to_face,
            )  # fmt: skip
            kernels.resolve(mesh.clip, mesh.faces, pix_to_face, top, bottom, barycentrics, depth)

        self._over_bands(band, height)
        return Fragments(pix_to_face, barycentrics, depth)

    def draw(self, clip: Tensor, faces: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """See `TensorRasterizer.draw`. Each view in a thread of its own, and without barycentrics:
        of four views that takes half of the time of `rasterize`. Nothing is left to that."""
        import torch

        points = clip.cpu().numpy()
        triangles = plain_array(faces.cpu().numpy(), np.int32)
        check(points.shape[1], triangles, (size, size))
        face = np.empty((len(points), size, size), np.int64)
        depth = np.empty(face.shape, np.float32)

        def view(k: int) -> None:
            padded = np.zeros((points.shape[1], 4))
            padded[:, [0, 1, 3]] = points[k]
            face[k], depth[k] = _nearest(laid_out(padded, triangles, (size, size)), size)

        in_threads(view, range(len(points)), self.threads)
        return torch.from_numpy(face), torch.from_numpy(depth)

    def nearest(
        self, clip: np.ndarray, faces: np.ndarray, size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The faces (size, size) int32 and the depth (size, size) float32 of `rasterize`, in one
        thread: for callers that draw several pictures at once."""
        return _nearest(set_up(clip, faces, (size, size)), size)

    def _over_bands(self, band: Callable[[int, int], None], height: int) -> None:
        if self.threads == 1:
            band(0, height)
            return
        with self._opening:
            if self._pool is None or self._pool_owner != os.getpid():
                self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="raster")
                self._pool_owner = os.getpid()
            pool = self._pool
        bands = min(self.threads * BANDS_PER_THREAD, -(-height // LEAST_ROWS))
        edges = np.linspace(0, height, bands + 1).astype(int).tolist()
        list(pool.map(band, edges[:-1], edges[1:]))


def _nearest(mesh: Triangles, size: int) -> tuple[np.ndarray, np.ndarray]:
    """(size, size) int32 faces, -1 where there is none, and float32 depth, +inf there."""
    pix_to_face = np.full((size, size), -1, np.int32)
    inverse_depth, depth = np.zeros((size, size)), np.empty((size, size), np.float32)
    kernels.draw(
        mesh.clip, mesh.faces, mesh.screen, mesh.corners, mesh.owners, mesh.rows,
        0, size, inverse_depth, pix_to_face,
    )  # fmt: skip
    kernels.depth_of(inverse_depth, depth)
    return pix_to_face, depth
