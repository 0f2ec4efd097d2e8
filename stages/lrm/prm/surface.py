"""From an object's views to its field, and from the field to a mesh in frame W."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stages.contract import Mesh, StageError
from stages.lrm.flexicubes.extract import extract
from stages.lrm.prm.cameras import condition_vectors, t_to_w
from stages.lrm.prm.empty import has_surface, repaired
from stages.lrm.prm.field import GRID_SCALE, TriplaneField
from stages.lrm.prm.model import Prm
from stages.lrm.prm.params import ModelParams

IMAGE_SIZE = 512
"""Side of the images that the model reads: 32 x 32 patches."""


@torch.no_grad()
def read_views(model: Prm, tiles: np.ndarray, chunk_points: int) -> TriplaneField:
    """The field of the object that four images show.

    tiles  (4, S, S, 3) float32 in [0, 1] on white, seen from azimuth 0, 90, 180 and 270 in turn
    """
    device = model.device
    images = torch.from_numpy(np.ascontiguousarray(tiles.transpose(0, 3, 1, 2), np.float32))
    if images.shape[-1] != IMAGE_SIZE:
        size = (IMAGE_SIZE, IMAGE_SIZE)
        images = functional.interpolate(images, size, mode="bicubic", antialias=True)
    cameras = torch.from_numpy(condition_vectors())
    planes = model.planes(images.clamp(0.0, 1.0)[None].to(device), cameras[None].to(device))
    return TriplaneField(planes[0], model.decoder, chunk_points)


def mesh_of(field: TriplaneField, params: ModelParams) -> Mesh:
    """The field's surface with the model's colours (sRGB), in frame W.

    Raises StageError (internal) if the field is not finite, or has no surface and
    `params.empty_shape` does not say what to do then.
    """
    resolution = params.resolution
    values = field.grid_values(resolution)
    sdf = _with_surface(values.sdf, params)
    if params.closed:
        close(sdf, resolution)
    vertices, faces = extract(
        sdf,
        values.deformation,
        lambda cubes: field.cube_weights(cubes, resolution),
        resolution,
        GRID_SCALE,
    )
    colors = (field.colors(vertices) * 255.0).to(torch.uint8)
    return Mesh(
        t_to_w(vertices.cpu().numpy()), faces.to(torch.int32).cpu().numpy(), colors.cpu().numpy()
    )


def close(sdf: Tensor, resolution: int) -> None:
    """Make the outermost layer of a grid's values, ((R + 1)^3,), outside, in place."""
    values = sdf.view((resolution + 1,) * 3)
    for axis in range(3):
        for end in (0, -1):
            layer = values.select(axis, end)
            layer.copy_(layer.abs().clamp_min(1e-6))


def _with_surface(sdf: Tensor, params: ModelParams) -> Tensor:
    if not bool(sdf.isfinite().all()):
        raise StageError(
            "internal",
            "the model's signed distance is not finite",
            "dtype float32 on this node's attempt, if it was another; else the weights are damaged",
        )
    if has_surface(sdf, params.resolution):
        return sdf
    if params.empty_shape == "error":
        where = "outside" if bool((sdf > 0).any()) else "inside"
        raise StageError(
            "internal",
            f"the model sees no object in the views: all of its field is {where}",
            "look at the views (or the bundle) and try another seed; empty_shape=repair goes on "
            "with a small solid, which ISOMER replaces by one fused from the normal maps",
        )
    return repaired(sdf, params.resolution, params.empty_shape)
