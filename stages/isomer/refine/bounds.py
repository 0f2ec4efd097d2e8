"""How large the mesh may get, known before the first step."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stages.contract import BadInput, StageError
from stages.isomer.refine.loop import Plan
from stages.models.free_memory import free_bytes

AREA_PER_VERTEX = 0.866
"""Of a mesh of equilateral triangles, in squared edge lengths (two triangles a vertex)."""
BYTES_PER_VERTEX = 4_400
BYTES_PER_PIXEL = 400
"""Rough, from the peaks of two processes on the CPU at 512 x 512 x 4: 836 MiB with 15,000 vertices,
1084 MiB with 74,000."""
LEAST_VERTICES = 1000
"""Fewer are not worth a refinement."""


@dataclass(frozen=True)
class Bounds:
    """What refinement takes at most: vertices, and bytes beyond the loaded stage."""

    vertices: int
    memory: int

    def __str__(self) -> str:
        return f"at most {self.vertices} vertices, {self.memory / 2**20:.0f} MiB"

    def require(self, device: str) -> None:
        """Raise StageError (out_of_memory) if `device` has less memory than this may take."""
        free = free_bytes(device)
        if self.memory <= free:
            return
        fitting = self.vertices - (self.memory - free) // BYTES_PER_VERTEX - 1
        hint = f"close other programs that use the memory of {device}"
        if fitting >= LEAST_VERTICES:
            hint = f"set max_vertices of stage isomer to {fitting} or less, or {hint}"
        raise StageError(
            "out_of_memory",
            f"the refinement may take {self.memory / 2**20:.0f} MiB for {self.vertices} vertices; "
            f"{free / 2**20:.0f} MiB are free on {device}",
            hint,
        )


def bound(
    vertices: np.ndarray,
    faces: np.ndarray,
    plans: tuple[Plan, ...],
    max_vertices: int,
    pixels: int,
    rescale: bool = True,
) -> tuple[tuple[Plan, ...], Bounds]:
    """What the refinement may take, and with `rescale` plans that cannot reach `max_vertices`: the
    shortest edge of each is raised to what so many vertices allow on this surface.

    pixels of all views together. Raises BadInput for a mesh that is too large from the start.
    """
    if len(vertices) > max_vertices:
        raise BadInput(
            f"coarse_mesh has {len(vertices)} vertices, max_vertices is {max_vertices}",
            f"raise max_vertices of stage isomer to {2 * len(vertices)}, or reduce the mesh",
        )
    corners = vertices.astype(np.float64)[faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = float(np.linalg.norm(normal, axis=1).sum()) / 2.0
    least = float(np.sqrt(area / (AREA_PER_VERTEX * max_vertices))) if rescale else 0.0
    bounded = tuple(
        replace(
            plan,
            schedule=replace(
                plan.schedule,
                shortest=max(plan.schedule.shortest, least),
                longest=max(plan.schedule.longest, least),
            ),
        )
        for plan in plans
    )
    shortest = min((plan.schedule.shortest for plan in bounded if plan.steps), default=np.inf)
    count = max(len(vertices), int(area / (AREA_PER_VERTEX * shortest**2)))
    count = min(count, max_vertices)
    return bounded, Bounds(count, BYTES_PER_VERTEX * count + BYTES_PER_PIXEL * pixels)
