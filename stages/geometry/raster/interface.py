"""The rasteriser's contract, and what can be done with what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

RasterizerName = Literal["auto", "cpu", "pytorch3d", "torch"]

NEAR_DEPTH = 1e-2
"""Faces are cut where the depth falls below this (scene units; objects have a size of about 2)."""


@dataclass(frozen=True)
class Fragments:
    """The nearest surface point behind every pixel centre.

    pix_to_face   (H, W) int32, index of the face, -1 where there is none
    barycentrics  (H, W, 3) float32, perspective-correct weights of the face's three corners,
                  >= 0 with sum 1; 0 where there is no face
    depth         (H, W) float32, along the optical axis (clip w); +inf where there is no face
    """

    pix_to_face: np.ndarray
    barycentrics: np.ndarray
    depth: np.ndarray

    @property
    def covered(self) -> np.ndarray:
        """(H, W) bool: pixels that show a face."""
        return self.pix_to_face >= 0


class Rasterizer(Protocol):
    """A hard rasteriser: pixel centres at half integers, both sides of a face are drawn."""

    @property
    def name(self) -> str:
        """Backend name for records and messages."""
        ...

    def rasterize(self, clip: np.ndarray, faces: np.ndarray, size: tuple[int, int]) -> Fragments:
        """Draw a mesh.

        clip   (V, 4) float clip coordinates; x / w and y / w in [-1, 1] inside the image, y
               points up and row 0 is the top row; w is the depth along the optical axis. z is
               not read: faces are cut at w = NEAR_DEPTH.
        faces  (F, 3) int vertex indices. Faces with a vertex that is not finite, and faces that
               have no area on screen, are not drawn.
        size   (height, width) in pixels

        Raises StageError where the backend cannot run.
        """
        ...


@runtime_checkable
class TensorRasterizer(Protocol):
    """A rasteriser that draws what is on a device already, in several images at once."""

    def draw(self, clip: Tensor, faces: Tensor, size: int) -> tuple[Tensor, Tensor] | None:
        """Draw a mesh as K cameras see it.

        clip   (K, V, 3) float64 x, y and w, as `Rasterizer.rasterize` takes them
        faces  (F, 3) int64
        size   side of the square images in pixels

        Returns (K, S, S) int64 faces, -1 where there is none, and (K, S, S) float32 depth, +inf
        there, on the rasteriser's device. None where a vertex is not finite, or so near or so far
        outside that faces may have to be cut: `rasterize` does that. Raises StageError likewise.
        """
        ...


def rehearse(rasterizer: Rasterizer) -> None:
    """Draw one face, so that compiling, and a backend that does not work, show when a stage loads:
    most do that while their input is still being computed. Raises StageError as `rasterize`."""
    clip = np.array([(-1, -1, 0, 1), (1, -1, 0, 1), (0, 1, 0, 1)], np.float64)
    rasterizer.rasterize(clip, np.array([[0, 1, 2]], np.int32), (8, 8))


def visible_faces(pix_to_face: np.ndarray) -> np.ndarray:
    """(n,) int32 sorted ids of the faces that own at least one pixel centre; see `Fragments`."""
    return np.unique(pix_to_face[pix_to_face >= 0])


def interpolate(fragments: Fragments, faces: np.ndarray, attributes: np.ndarray) -> np.ndarray:
    """(V, C) vertex attributes -> (H, W, C) float32 image, 0 where there is no face."""
    image = np.zeros((*fragments.pix_to_face.shape, attributes.shape[1]), np.float32)
    # Numbers of pixels and `take`: half the time of masks and of arrays as indices.
    pixels = np.flatnonzero(fragments.covered)
    corners = faces.take(fragments.pix_to_face.ravel()[pixels], axis=0)
    weights = fragments.barycentrics.reshape(-1, 3).take(pixels, axis=0)
    values = attributes.astype(np.float32, copy=False)
    total = values.take(corners[:, 0], axis=0) * weights[:, 0:1]
    total += values.take(corners[:, 1], axis=0) * weights[:, 1:2]
    total += values.take(corners[:, 2], axis=0) * weights[:, 2:3]
    image.reshape(-1, attributes.shape[1])[pixels] = total
    return image
