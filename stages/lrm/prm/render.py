"""Pictures of the LRM's mesh for the reference bundle: normal maps, and unlit vertex colours.

The reference shades with nvdiffrec's renderer (Munkberg et al., "Extracting Triangular 3D Models,
Materials, and Lighting From Images", CVPR 2022); of that, what reaches the bundle's normals is
here: two-sided shading normals, one sample a pixel, analytic antialiasing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from stages.contract import Mesh
from stages.geometry.bundle import TILE
from stages.geometry.camera_rig import BUNDLE_ELEVATION, FOVY, RADIUS
from stages.geometry.cameras import Camera, encode_normals
from stages.geometry.diffrender.antialias import antialias
from stages.geometry.diffrender.samples import Samples, sample
from stages.geometry.diffrender.views import Views, Visible
from stages.geometry.raster import Rasterizer, open_rasterizer
from stages.geometry.render import vertex_normals
from stages.geometry.torch_edges import edge_table, face_normals
from stages.models.deterministic import repeatable

BEND = 0.1
"""Cosine to the view below which the shading normal is bent towards the face's own."""
TILT = np.array(
    [[1, 0, 0], [0, np.sin(90.0), -np.cos(90.0)], [0, np.cos(90.0), np.sin(90.0)]], np.float64
)
"""The reference's "identity" camera, whose elevation of 90 degrees was taken for radians: a turn of
26.6 degrees about x."""


def render_bundle_normals(
    mesh: Mesh,
    azimuths: Sequence[float],
    elevation: float = BUNDLE_ELEVATION,
    radius: float = RADIUS,
    fovy: float = FOVY,
    size: int = TILE,
    tilted: bool = False,
    rasterizer: Rasterizer | None = None,
    device: str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Normal maps of a mesh in the bundle's encoding, on white.

    mesh        in frame W
    azimuths    V of them; with elevation and fovy in degrees, radius in scene units
    tilted      as the reference: normals turned by TILT, and mixed at outlines with a white that is
                turned with them. Otherwise neither: turning mesh and cameras changes no picture
    rasterizer  default: ours on the CPU
    device      of the tensors, "cpu" or "cuda:N"

    Returns (V, S, S, 3) float32 in [0, 1] and the antialiased coverage (V, S, S) float32 in [0, 1].
    Raises StageError where the rasteriser cannot run.
    """
    cameras = tuple(Camera(azimuth, elevation, radius, fovy) for azimuth in azimuths)
    shot = _Shot.of(mesh, cameras, size, rasterizer, device)
    with repeatable(device):
        world, coverage = shot.finish(shading_normals(shot, mesh), 1.0 if tilted else 0.0)
    return encode_bundle_normals(world, coverage, cameras, tilted), coverage


def render_bundle_colors(
    mesh: Mesh,
    azimuths: Sequence[float],
    elevation: float = BUNDLE_ELEVATION,
    radius: float = RADIUS,
    fovy: float = FOVY,
    size: int = TILE,
    rasterizer: Rasterizer | None = None,
    device: str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """A mesh's vertex colours, unlit, on white; arguments and shapes as `render_bundle_normals`.

    Colours are interpolated as sRGB values. Raises ValueError for a mesh without colours.
    """
    if mesh.colors is None:
        raise ValueError("the mesh has no colours to render")
    cameras = tuple(Camera(azimuth, elevation, radius, fovy) for azimuth in azimuths)
    shot = _Shot.of(mesh, cameras, size, rasterizer, device)
    colors = torch.tensor(mesh.colors, dtype=torch.float32, device=device) / 255.0
    with repeatable(device):
        image, coverage = shot.finish(shot.samples.interpolate(colors), 1.0)
    return np.clip(image, 0.0, 1.0), coverage


def encode_bundle_normals(
    world: np.ndarray, coverage: np.ndarray, cameras: Sequence[Camera], tilted: bool
) -> np.ndarray:
    """(V, S, S, 3) antialiased world normals -> colours in [0, 1] on white.

    coverage (V, S, S) in [0, 1] is what they are blended with white by. Each pixel is renormalised.
    """
    tiles = []
    for normals, share, camera in zip(world.astype(np.float64), coverage, cameras, strict=True):
        turned = normals @ TILT if tilted else normals
        length = np.linalg.norm(turned, axis=-1, keepdims=True)
        encoded = encode_normals(turned / np.maximum(length, 1e-8), camera)
        tiles.append(encoded * share[..., None] + (1.0 - share[..., None]))
    return np.clip(np.stack(tiles), 0.0, 1.0).astype(np.float32)


@dataclass(frozen=True)
class _Shot:
    """One mesh as K cameras see it: what every picture of it shares."""

    views: Views
    vertices: Tensor
    faces: Tensor
    clip: Tensor
    visible: Visible
    samples: Samples

    @classmethod
    def of(
        cls,
        mesh: Mesh,
        cameras: Sequence[Camera],
        size: int,
        rasterizer: Rasterizer | None,
        device: str,
    ) -> _Shot:
        views = Views(cameras, size, rasterizer or open_rasterizer("cpu"), device)
        vertices = torch.tensor(mesh.vertices, dtype=torch.float32, device=device)
        faces = torch.tensor(mesh.faces, dtype=torch.int64, device=device)
        clip, visible = views.to_clip(vertices), views.look(vertices, faces)
        return cls(views, vertices, faces, clip, visible, sample(clip, faces, visible))

    def finish(self, values: Tensor, background: float) -> tuple[np.ndarray, np.ndarray]:
        """(P, 3) pixel values -> antialiased (K, S, S, 3), and coverage (K, S, S)."""
        around = values.new_tensor((background, background, background, 0.0))
        image = self.samples.fill(
            torch.cat([values, torch.ones_like(values[:, :1])], dim=1), around
        )
        across = edge_table(self.faces, len(self.vertices)).across(self.faces)
        image = antialias(image, self.visible, self.clip, self.faces, across)
        pictures = self.visible.region.whole(image, around).cpu().numpy()
        return pictures[..., :3], pictures[..., 3]


def shading_normals(shot: _Shot, mesh: Mesh) -> Tensor:
    """(P, 3) world normals of the visible pixels, towards the camera, as nvdiffrec shades them.

    Both the face's and the interpolated normal are turned over where the face looks away; where the
    latter then nearly looks away, or does, the face's own takes over.
    """
    samples = shot.samples
    smooth = torch.from_numpy(vertex_normals(mesh.vertices, mesh.faces)).to(shot.vertices.device)
    smooth = normalize(samples.interpolate(smooth), dim=1)
    flat = normalize(face_normals(shot.vertices, shot.faces), dim=1, eps=1e-20)[samples.faces]
    to_eye = shot.views.centers[samples.view] - samples.interpolate(shot.vertices)
    to_eye = normalize(to_eye, dim=1)
    over = torch.where((flat * to_eye).sum(dim=1, keepdim=True) < 0.0, -1.0, 1.0)
    smooth, flat = smooth * over, flat * over
    share = ((to_eye * smooth).sum(dim=1, keepdim=True) / BEND).clamp(0.0, 1.0)
    return torch.lerp(flat, smooth, share)
