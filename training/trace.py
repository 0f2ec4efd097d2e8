"""Rays against random objects: where they enter and leave, and how the light falls there.

On a CUDA card with the kernels of `trace_gpu`, elsewhere with those of `trace_cpu`.
"""

from __future__ import annotations

from types import ModuleType

from torch import Tensor

STEPS = 72
SHARP = 7.0
"""Of shadows: the higher, the narrower their soft edge."""


def trace(
    parts: Tensor, outlines: Tensor, rays: Tensor, eyes: Tensor, spans: Tensor, steps: int = STEPS
) -> Tensor:
    """March along unit rays (B, 3, P) from eyes (B, 3), between distances spans (B, 2).

    parts (B, K, ROW); outlines (M, S, S): signed distances to outlines over [-1, 1]^2, row 0 at
    the top, in half sides. Returns (B, 11, P) float32: whether it hit, the first distance, the last
    distance at which the ray leaves the object (marched backwards from the far end), the unit
    normal (3) and the part's number where it enters, and the same (4) where it leaves. Where
    nothing was hit only the first of them means anything.
    """
    found: Tensor = _kernels(rays).trace(parts, outlines, rays, eyes, spans, steps)
    return found


def light(
    parts: Tensor, outlines: Tensor, points: Tensor, normals: Tensor, lights: Tensor
) -> Tensor:
    """How much of a light and of the sky reaches points (B, 3, P) with unit normals (B, 3, P).

    lights (B, 3): unit vectors towards the light. Points further than 20 out are skipped. Returns
    (B, 2, P) in [0, 1]: the light's share, the sky's share.
    """
    found: Tensor = _kernels(points).light(parts, outlines, points, normals, lights, SHARP)
    return found


def _kernels(rays: Tensor) -> ModuleType:
    if rays.is_cuda:
        from training import trace_gpu  # Triton: for cards only

        return trace_gpu
    from training import trace_cpu

    return trace_cpu
