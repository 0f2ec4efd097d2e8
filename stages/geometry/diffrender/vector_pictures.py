"""Pictures of per-vertex vectors on the CPU: what `samples` and `antialias` make, in one pass.

Tensor operations go over all pixels dozens of times, and their gradients again; compiled loops go
over them once each way, every view in a thread of its own. Sums are taken in float64 and in one
order, so results differ from those of the operations by rounding, and not with the threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stages.geometry.diffrender.views import Visible
from stages.geometry.threads import in_threads


@dataclass(frozen=True)
class Scene:
    """What is drawn, apart from what the pictures are differentiable in.

    faces, across  (F, 3) int64, see `antialias`; visible of the same mesh
    """

    faces: Tensor
    across: Tensor
    visible: Visible
    threads: int


def draw_vectors(clip: Tensor, vectors: Tensor, scene: Scene) -> Tensor:
    """(A, 4) float32: (q + 1) / 2 of vectors q (V, 3) and coverage, of the region's pixels.

    clip (K, V, 3) x, y, w; differentiable in both, as `normal_render.render_vectors`.
    """
    drawn: Tensor = _Drawn.apply(clip, vectors, scene)
    return drawn


class _Drawn(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, clip: Tensor, vectors: Tensor, scene: Scene) -> Tensor:
        parts = _Parts(clip, vectors, scene)
        image = np.empty((len(parts.pixels), 4), np.float32)
        ctx.parts, ctx.threads = parts, scene.threads
        ctx.cuts = in_threads(lambda k: parts.draw(k, image), range(len(clip)), scene.threads)
        return torch.from_numpy(image)

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor, Tensor, None]:
        parts, image = ctx.parts, given.contiguous().numpy()
        found = in_threads(
            lambda k: parts.back(k, *ctx.cuts[k], image), range(len(ctx.cuts)), ctx.threads
        )
        to_clip = np.stack([view for view, _ in found]).astype(np.float32)
        to_vectors = np.sum([vectors for _, vectors in found], axis=0).astype(np.float32)
        return torch.from_numpy(to_clip), torch.from_numpy(to_vectors), None


class _Parts:
    """Arrays of a scene, and of one view of it what the kernels ask for."""

    def __init__(self, clip: Tensor, vectors: Tensor, scene: Scene) -> None:
        region = scene.visible.region
        self.clip = clip.detach().contiguous().numpy()
        self.vectors = vectors.detach().contiguous().numpy()
        self.faces = scene.faces.contiguous().numpy()
        self.across = scene.across.contiguous().numpy()
        self.size = scene.visible.size
        self.face = scene.visible.face.reshape(len(clip), -1).numpy()
        self.depth = scene.visible.depth.reshape(len(clip), -1).numpy()
        self.pixels = region.pixels.numpy()
        self.rows = region.rows.reshape(len(clip), -1).numpy()
        self.begin = np.searchsorted(self.pixels, np.arange(len(clip) + 1) * self.size**2)

    def draw(self, k: int, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fill in view k's rows of image (A, 4); returns the `cuts` and `mixing` of the kernels."""
        from stages.geometry.diffrender import vector_kernels as kernels

        begin, end = self.begin[k : k + 2]
        pixels, drawn = self._pixels(k), image[begin:end]
        shaded = (self.clip[k], self.vectors, self.faces, self.face[k], pixels, self.size)
        kernels.shade(*shaded, drawn)
        # Each pixel has two neighbours that come after it. What is not written takes no memory.
        cuts = np.empty((2 * len(pixels), 6), np.int64)
        mixing = np.empty((2 * len(pixels), 5), np.float32)
        count = kernels.find_cuts(
            self.clip[k], self.faces, self.across, self.face[k], self.depth[k], pixels,
            self.rows[k], begin, self.size, drawn, cuts, mixing,
        )  # fmt: skip
        cuts, mixing = cuts[:count].copy(), mixing[:count].copy()
        kernels.mix(cuts, mixing, drawn)
        return cuts, mixing

    def back(
        self, k: int, cuts: np.ndarray, mixing: np.ndarray, given: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Gradients (V, 3) float64 with respect to view k's clip coordinates and to the vectors.

        given (A, 4), of the pictures.
        """
        from stages.geometry.diffrender import vector_kernels as kernels

        begin, end = self.begin[k : k + 2]
        part = given[begin:end]
        to_image, to_clip = part.copy(), np.zeros(self.clip[k].shape)
        to_vectors = np.zeros_like(to_clip)
        kernels.mix_back(self.clip[k], cuts, mixing, self.size, part, to_image, to_clip)
        kernels.shade_back(
            self.clip[k], self.vectors, self.faces, self.face[k], self._pixels(k), self.size,
            to_image, to_clip, to_vectors,
        )  # fmt: skip
        return to_clip, to_vectors

    def _pixels(self, k: int) -> np.ndarray:
        begin, end = self.begin[k : k + 2]
        return np.asarray(self.pixels[begin:end] - k * self.size**2)
