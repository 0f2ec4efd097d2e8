"""What the mesh is to look like: target pictures, and the normal that is wanted at each vertex."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stages.geometry.cameras import Camera, decode_normals
from stages.geometry.diffrender.views import Views
from stages.geometry.raster import Rasterizer
from stages.geometry.threads import in_threads
from stages.geometry.torch_edges import face_normals, vertex_normals

MIN_COSINE = 0.05
THRESHOLD = 0.1
RASTER_SIZE = 1024


@dataclass(frozen=True)
class Targets:
    """The pictures of a bundle.

    normals   (K, S, S, 3) float64 in [0, 1]: (n + 1) / 2 in frame W, on white
    mask      (K, S, S) bool
    coverage  (K, S, S) float in [0, 1], the share of each pixel that the object covers
    weights   (K,) relative weights of the views
    """

    cameras: tuple[Camera, ...]
    normals: np.ndarray
    mask: np.ndarray
    coverage: np.ndarray
    weights: tuple[float, ...]

    @classmethod
    def from_tiles(
        cls,
        normal_tiles: np.ndarray,
        mask: np.ndarray,
        coverage: np.ndarray,
        cameras: Sequence[Camera],
        weights: Sequence[float],
        threads: int = 1,
    ) -> Targets:
        """From tiles (K, S, S, 3) in the bundle's encoding and where the object is in them.

        Values are cut to 8 bits as the reference does on its way through a picture. The same for
        any number of threads.
        """

        def picture(k: int) -> np.ndarray:
            world = (decode_normals(normal_tiles[k].astype(np.float64), cameras[k]) + 1.0) / 2.0
            on_white = np.where(mask[k, ..., None], world, 1.0)
            return np.asarray(np.floor(np.clip(on_white, 0.0, 1.0) * 255.0) / 255.0)

        normals = np.stack(in_threads(picture, range(len(cameras)), threads))
        return cls(tuple(cameras), normals, mask, coverage, tuple(weights))

    def views(self, rasterizer: Rasterizer, device: str = "cpu", threads: int = 1) -> Views:
        """What sees a mesh as the pictures' cameras do."""
        return Views(self.cameras, self.mask.shape[1], rasterizer, device, threads)

    def on_black(self) -> np.ndarray:
        """(K, S, S, 4) float32, for comparison with rendered pictures; see `init_target`."""
        rgba = np.concatenate([self.normals, self.mask[..., None]], axis=-1)
        return init_target(np.rint(rgba * 255.0).astype(np.uint8))


def init_target(rgba: np.ndarray) -> np.ndarray:
    """(K, S, S, 4) uint8 on any plain background -> float32 in [0, 1] on black.

    The background's colour is read from pixel (0, 0) and taken out of half covered pixels.
    """
    color, alpha = rgba[..., :3] / 255.0, rgba[..., 3:] / 255.0
    background = color[:, :1, :1]
    solid = (color - background * (1.0 - alpha)) / np.clip(alpha, 1e-6, 1.0)
    on_black = np.where(alpha > 0.05, np.clip(solid, 0.0, 1.0) * alpha, 0.0)
    return np.concatenate([on_black, alpha], axis=-1).astype(np.float32)


class Evidence:
    """What normals the pictures ask for of vertices, all views together.

    The multi-view projection of the reference's second stage: faces that own a pixel at
    1024 x 1024, weights |cos| against the optical axis. All of it happens on `device`.
    """

    def __init__(
        self, targets: Targets, rasterizer: Rasterizer, device: str, threads: int = 1
    ) -> None:
        def on_device(values: object) -> Tensor:
            return torch.as_tensor(np.asarray(values, np.float32), device=device)

        self._fine = Views(targets.cameras, RASTER_SIZE, rasterizer, device, threads)
        self._back = on_device([camera.axes[:, 2] for camera in targets.cameras])
        self._weights = on_device(targets.weights)
        pictures = np.concatenate([targets.normals, targets.mask[..., None]], axis=-1)
        self._pictures = on_device(pictures).permute(0, 3, 1, 2).contiguous()

    @torch.no_grad()
    def normals(self, vertices: Tensor, faces: Tensor) -> Tensor:
        """(V, 3) unit normals that the pictures ask for; an unseen vertex keeps its own.

        vertices (V, 3), faces (F, 3) int64.
        """
        own = vertex_normals(vertices, faces)
        clip = self._fine.to_clip(vertices)
        ndc = torch.stack([clip[..., 0], -clip[..., 1]], dim=-1) / clip[..., 2:]
        inside = (ndc.abs() <= 1.0).all(dim=-1) & (clip[..., 2] > 0.0)
        seen = self._seen(vertices, faces) & inside
        told = functional.grid_sample(
            self._pictures, ndc[:, None], padding_mode="border", align_corners=False
        )[:, :, 0]
        share = (own @ self._back.T).T.abs() * self._weights[:, None] * told[:, 3] * seen
        weight = share.sum(dim=0)
        mean = (share[:, None] * told[:, :3]).sum(dim=0).T / weight.clamp(min=1e-12)[:, None]
        wanted = torch.where(weight[:, None] > THRESHOLD, 2.0 * mean - 1.0, own)
        return functional.normalize(wanted, eps=1e-12, dim=1)

    def _seen(self, vertices: Tensor, faces: Tensor) -> Tensor:
        """(K, V) bool: corners of faces that own a pixel and face the view's camera."""
        shown = self._fine.look(vertices, faces).face
        found = self._by_loops if shown.device.type == "cpu" else self._by_tensors
        return found(vertices, faces, shown)

    def _by_tensors(self, vertices: Tensor, faces: Tensor, shown: Tensor) -> Tensor:
        """`_seen` where the pixels (K, S, S) show these faces."""
        owns = torch.zeros(len(shown), len(faces) + 1, dtype=torch.bool, device=shown.device)
        # The last column is for pixels without a face, whose number is -1.
        owns.scatter_(1, shown.flatten(1) % (len(faces) + 1), True)
        turned = functional.normalize(face_normals(vertices, faces), eps=1e-20, dim=1)
        owns = owns[:, :-1] & ((turned @ self._back.T).T > MIN_COSINE)
        seen = torch.zeros(len(shown), len(vertices), dtype=torch.bool, device=shown.device)
        for view, face in enumerate(owns):
            seen[view, faces[face].reshape(-1)] = True
        return seen

    def _by_loops(self, vertices: Tensor, faces: Tensor, shown: Tensor) -> Tensor:
        """The same by a compiled loop over the pixels, each view in a thread."""
        from stages.isomer.refine.kernels import mark_seen

        points, corners = vertices.contiguous().numpy(), faces.contiguous().numpy()
        pixels, back = shown.flatten(1).numpy(), self._back.numpy()
        seen = np.zeros((len(shown), len(vertices)), np.bool_)

        def view(k: int) -> None:
            mark_seen(points, corners, pixels[k], back[k], MIN_COSINE, seen[k])

        in_threads(view, range(len(shown)), self._fine.threads)
        return torch.from_numpy(seen)
