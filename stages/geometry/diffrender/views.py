"""What the four cameras see, as tensors on the device that optimises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from stages.geometry.cameras import Camera
from stages.geometry.raster import Rasterizer, TensorRasterizer


@dataclass(frozen=True)
class Region:
    """The pixels of K square images of side S that show a mesh, and those beside them.

    Whatever is beyond is plain background: an object fills about a fifth of its pictures, and work
    on the rest of them took most of the time of a step.

    shape   (K, S, S)
    pixels  (A,) int64, flat over K, S, S, ascending
    rows    (K * S * S,) int64, where in `pixels` a pixel of the region is; undefined elsewhere
    """

    shape: torch.Size
    pixels: Tensor
    rows: Tensor

    @classmethod
    def around(cls, covered: Tensor) -> Region:
        """covered (K, S, S) bool."""
        near = covered.clone()
        near[:, 1:] |= covered[:, :-1]
        near[:, :-1] |= covered[:, 1:]
        near[:, :, 1:] |= covered[:, :, :-1]
        near[:, :, :-1] |= covered[:, :, 1:]
        pixels = torch.nonzero(near.reshape(-1))[:, 0]
        rows = torch.empty(covered.numel(), dtype=torch.int64, device=covered.device)
        rows.index_copy_(0, pixels, torch.arange(len(pixels), device=covered.device))
        return cls(covered.shape, pixels, rows)

    def whole(self, values: Tensor, background: float | Tensor = 0.0) -> Tensor:
        """(A, C) values of the region's pixels -> (K, S, S, C) on a plain background."""
        empty = values.new_zeros(self.shape.numel(), values.shape[1]) + background
        return empty.index_copy(0, self.pixels, values).reshape(*self.shape, -1)


@dataclass(frozen=True)
class Visible:
    """The covered pixels of K square images of side S, flattened view by view, row by row.

    size    S
    face    (K, S, S) int64, the nearest face, -1 where there is none
    depth   (K, S, S) float32, along the optical axis; +inf where there is no face
    """

    size: int
    face: Tensor
    depth: Tensor

    @cached_property
    def region(self) -> Region:
        """Where a picture of the mesh can differ from its background."""
        return Region.around(self.face >= 0)


class Views:
    """Projection by K cameras, differentiable, and the hard rasteriser behind it."""

    def __init__(
        self,
        cameras: Sequence[Camera],
        size: int,
        rasterizer: Rasterizer,
        device: str,
        threads: int = 1,
    ) -> None:
        """threads: of what is drawn on the CPU; no result depends on them."""
        self.cameras = tuple(cameras)
        self.size = size
        self.threads = threads
        self.rasterizer = rasterizer
        self._device = device
        # The clip coordinates of the origin and the axes give the projection's matrix.
        corners = np.concatenate([np.zeros((1, 3)), np.eye(3)])
        clip = np.stack([camera.to_clip(corners)[:, [0, 1, 3]] for camera in cameras])
        self._offset64 = torch.tensor(clip[:, :1], dtype=torch.float64, device=device)
        self._linear64 = torch.tensor(clip[:, 1:] - clip[:, :1], device=device)
        self._offset, self._linear = self._offset64.float(), self._linear64.float()
        centers = np.stack([camera.center for camera in cameras])
        self.centers = torch.tensor(centers, dtype=torch.float32, device=device)

    def tensors(self, vertices: np.ndarray, faces: np.ndarray) -> tuple[Tensor, Tensor]:
        """A mesh of arrays as float32 and int64 on the device."""
        return (
            torch.tensor(vertices, dtype=torch.float32, device=self._device),
            torch.tensor(faces, dtype=torch.int64, device=self._device),
        )

    def to_clip(self, vertices: Tensor) -> Tensor:
        """(V, 3) points -> (K, V, 3) clip x, y and w; y points up, w is the depth."""
        return torch.matmul(vertices, self._linear) + self._offset

    def arrays(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of a view on the CPU, float32: the camera's place (3,), and a matrix (3, 3) and an offset
        (3,) that make clip x, y and w of points."""
        return self.centers[k].numpy(), self._linear[k].numpy(), self._offset[k, 0].numpy()

    def to_clip_of(self, view: Tensor, points: Tensor) -> Tensor:
        """(N, 3) points, each as one view (N,) int64 sees it -> (N, 3) clip x, y and w."""
        return torch.matmul(points[:, None], self._linear[view])[:, 0] + self._offset[view, 0]

    def look(self, vertices: Tensor, faces: Tensor) -> Visible:
        """Rasterise a mesh into all views. Raises StageError where the backend cannot run."""
        drawn = None
        if isinstance(self.rasterizer, TensorRasterizer):
            exact = torch.matmul(vertices.detach().to(torch.float64), self._linear64)
            drawn = self.rasterizer.draw(exact + self._offset64, faces, self.size)
        face, depth = drawn or self._by_arrays(vertices, faces)
        return Visible(self.size, face.to(self._device, torch.int64), depth.to(self._device))

    def _by_arrays(self, vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
        points = vertices.detach().cpu().numpy().astype(np.float64)
        triangles = faces.cpu().numpy().astype(np.int32)
        shots = [
            self.rasterizer.rasterize(camera.to_clip(points), triangles, (self.size, self.size))
            for camera in self.cameras
        ]
        face = torch.from_numpy(np.stack([shot.pix_to_face for shot in shots]))
        return face, torch.from_numpy(np.stack([shot.depth for shot in shots]))
