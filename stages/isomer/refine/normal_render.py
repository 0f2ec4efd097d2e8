"""Differentiable pictures of per-vertex vectors: normals, and the normals that are wanted."""

from __future__ import annotations

import torch
from torch import Tensor

from stages.geometry.diffrender.antialias import antialias
from stages.geometry.diffrender.samples import sample
from stages.geometry.diffrender.vector_pictures import Scene, draw_vectors
from stages.geometry.diffrender.views import Views, Visible


def render_vectors(
    vertices: Tensor,
    faces: Tensor,
    across: Tensor,
    vectors: Tensor,
    views: Views,
    visible: Visible,
) -> Tensor:
    """(A, 4): (q + 1) / 2 of the vectors q interpolated over the faces, and coverage.

    Of the pixels of `visible.region`; beyond it all is 0.

    vertices (V, 3) and vectors (V, 3) in [-1, 1], both differentiable; faces, across (F, 3) int64;
    visible must be of the same mesh. Background is 0. Interpolated vectors are not renormalised.
    """
    clip = views.to_clip(vertices)
    if clip.device.type == "cpu":
        return draw_vectors(clip, vectors, Scene(faces, across, visible, views.threads))
    samples = sample(clip, faces, visible)
    shaded = samples.interpolate((vectors + 1.0) / 2.0)
    image = samples.fill(torch.cat([shaded, torch.ones_like(shaded[:, :1])], dim=1), 0.0)
    return antialias(image, visible, clip, faces, across)
