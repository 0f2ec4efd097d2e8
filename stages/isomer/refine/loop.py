"""The refinement loop: render, compare, step, remesh, repeat."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from stages.contract import StageError
from stages.geometry.diffrender.views import Visible
from stages.geometry.raster import Rasterizer
from stages.geometry.silhouettes import signed_distance
from stages.geometry.torch_edges import vertex_normals
from stages.isomer.refine.asked import asked, tolerances
from stages.isomer.refine.losses import (
    OUTSIDE,
    background_loss,
    expansion_loss,
    picture_loss,
    pictures_loss,
)
from stages.isomer.refine.normal_render import render_vectors
from stages.isomer.refine.optimizer import POSITION, MeshOptimizer, StepRates
from stages.isomer.refine.outline import outline_loss
from stages.isomer.refine.targets import Evidence, Targets
from stages.isomer.refine.unseen import evidence, hold

log = logging.getLogger(__name__)

Objective = Literal["improved", "reference"]
Progress = Callable[[int, str], None]

FIRST_STEPS, REFRESH_EVERY = 5, 20
"""Explicit targets are found anew in the first steps, then every so many."""
EXPANSION = 0.1
OUTLINE = 1.0
"""Weight of the pull on the outline, in squared pixels of all views."""
LOTTERY = 42
"""Seed of the order in which remeshing mends edges. No picture tells of it, and nobody would choose
a mesh by it, so a run's seed does not reach it: with another one, a mesh is not refined again."""
MAX_REACH = 4.0
"""A vertex farther than this from the origin has left every view: the mesh has exploded."""


@dataclass(frozen=True)
class Plan:
    """One stage of the refinement.

    kind  "shape" compares with the target normals pixel by pixel and pushes outwards (the
          reference's stage 1); "detail" with the normals that the pictures ask of each vertex
          (stage 2)
    """

    kind: Literal["shape", "detail"]
    steps: int
    schedule: StepRates


class Refiner:
    """Refines meshes against one set of targets, on one device.

    device  "cpu" or "cuda:N", of the tensors; the rasteriser has its own
    trusts  whether what the pictures do not tell of, or do not ask to move, stays as in the start
    threads  of what is drawn on the CPU; no result depends on them
    """

    def __init__(
        self,
        targets: Targets,
        rasterizer: Rasterizer,
        device: str,
        objective: Objective,
        max_vertices: int,
        trusts: bool,
        threads: int = 1,
    ) -> None:
        self._targets = targets
        self._rasterizer = rasterizer
        self._device = device
        self._objective = objective
        self._max_vertices = max_vertices
        self._generator = torch.Generator().manual_seed(LOTTERY)
        self._views = targets.views(rasterizer, device, threads)
        self._coverage = torch.from_numpy(targets.coverage.astype(np.float32)).to(device)
        self._outside = float((targets.coverage < OUTSIDE).sum())
        distance = signed_distance(targets.coverage.astype(np.float32), threads)
        self._distance = torch.from_numpy(distance).to(device)
        self._wanted = torch.empty(0)
        self._trusts = trusts

    def run(
        self, vertices: np.ndarray, faces: np.ndarray, plans: tuple[Plan, ...], progress: Progress
    ) -> tuple[np.ndarray, np.ndarray]:
        """vertices (V, 3), faces (F, 3) -> refined float32 and int32 arrays.

        progress(step, note) after every step. A mesh that explodes, or gets NaN, raises
        StageError (internal) in the first step; later the last good mesh is returned, and a
        warning says so.
        """
        points = torch.tensor(vertices, dtype=torch.float32, device=self._device)
        triangles = torch.tensor(faces, dtype=torch.int64, device=self._device)
        kept = torch.cat([points, torch.zeros_like(points[:, :1])], dim=1)
        total, done = sum(plan.steps for plan in plans), 0
        for plan in plans:
            optimizer = MeshOptimizer(points, triangles, plan.schedule, kept)
            for step in range(plan.steps):
                before = optimizer.vertices
                optimizer.step(self._gradient(optimizer, plan.kind, step))
                if self._trusts:
                    self._hold(optimizer, before)
                done += 1
                # Looked for before remeshing too, which has no answer to coordinates that are none.
                trouble = find_trouble(optimizer)
                if not trouble:
                    optimizer.remesh(self._generator, self._max_vertices)
                    trouble = find_trouble(optimizer)
                if trouble:
                    _give_up(trouble, done, total)
                    progress(total, f"stopped at step {done}: {trouble}")
                    return _arrays(points, triangles)
                points, triangles = optimizer.vertices, optimizer.faces
                kept = optimizer.carried
                progress(done, f"{len(points)} vertices")
        return _arrays(points, triangles)

    def _hold(self, optimizer: MeshOptimizer, before: Tensor) -> None:
        """Take back of the last step what nothing asks for. Home and what is earned are carried."""
        homes, earned = optimizer.carried[:, :3], optimizer.carried[:, 3:]
        positions, earned = hold(
            before,
            optimizer.vertices,
            homes,
            earned,
            self._shown,
            self._asked,
            optimizer.edges.ends,
        )
        optimizer.state[:, POSITION] = positions
        optimizer.carried[:, 3:] = earned

    @cached_property
    def _evidence(self) -> Evidence:
        return Evidence(self._targets, self._rasterizer, self._device, self._views.threads)

    @cached_property
    def _tolerances(self) -> Tensor:
        """(K, S, S) float32 of `tolerances`: only a trusted start asks for them."""
        found = tolerances(self._targets.normals, self._targets.mask)
        return torch.from_numpy(found).to(self._device)

    @cached_property
    def _picture(self) -> Tensor:
        """(K, S, S, 4) of the targets on black: only kind "shape" and objective reference look."""
        return torch.from_numpy(self._targets.on_black()).to(self._device)

    def _gradient(self, optimizer: MeshOptimizer, kind: str, step: int) -> Tensor:
        """(V, 3) gradient of the objective at the optimiser's mesh."""
        vertices, faces = optimizer.vertices.clone().requires_grad_(), optimizer.faces
        visible = self._views.look(vertices, faces)
        across = optimizer.edges.across(faces)
        normals = vertex_normals(vertices, faces)
        image = render_vectors(vertices, faces, across, normals, self._views, visible)
        if kind == "shape":
            wanted, loss = self._picture, EXPANSION * expansion_loss(vertices, normals)
        else:
            if self._is_due(step):
                self._refresh(vertices.detach(), faces, across, visible)
            wanted, loss = self._wanted, vertices.new_zeros(())
        region = visible.region
        if self._objective == "reference":
            loss = loss + picture_loss(image, region, wanted)
            loss = loss + background_loss(image, region, self._picture[..., 3])
        else:
            loss = loss + pictures_loss(image, region, wanted, self._coverage, self._outside)
            pull, off = outline_loss(vertices, faces, self._views, visible, self._distance)
            loss = loss + OUTLINE / self._coverage.numel() * pull
            if self._trusts:
                self._asked = asked(image, wanted, self._tolerances, visible, faces, off)
                self._shown = evidence(vertices, normals, self._views, visible)
        return torch.autograd.grad(loss, vertices)[0]

    def _is_due(self, step: int) -> bool:
        """Whether explicit targets are found anew: the improved objective leaves out every other
        one of the first steps, which fits the pictures as well and takes a tenth less time."""
        if self._objective == "improved" and step % 2:
            return False
        return step < FIRST_STEPS or step % REFRESH_EVERY == 0

    def _refresh(self, vertices: Tensor, faces: Tensor, across: Tensor, visible: Visible) -> None:
        """Draw the normals that the pictures ask for on the mesh as it is now."""
        vectors = self._evidence.normals(vertices, faces)
        with torch.no_grad():
            drawn = render_vectors(vertices, faces, across, vectors, self._views, visible)
            self._wanted = visible.region.whole(drawn[:, :3])


def find_trouble(optimizer: MeshOptimizer) -> str:
    """What is wrong with the optimiser's mesh, or "" if it can be worked on."""
    points = optimizer.vertices
    if not len(optimizer.faces):
        return "nothing is left of the mesh"
    bad = (~optimizer.state.isfinite()).any(dim=1).sum()
    # Both at once: what is asked of a card waits for all its work.
    count, reach = torch.stack([bad, points.abs().max()]).tolist()
    if count:
        return f"{count:.0f} of {len(points)} vertices are not finite numbers"
    if reach > MAX_REACH:
        return f"the mesh exploded to {reach:.3g} scene units"
    return ""


def _give_up(trouble: str, step: int, total: int) -> None:
    """Raise StageError (internal) in step 1; later, log that the step before is the result."""
    if step == 1:
        raise StageError(
            "internal",
            f"{trouble} after the first step of the refinement",
            "the coarse mesh may not belong to the bundle; look at both, or set the steps of stage "
            "isomer to 0",
        )
    log.warning(
        "refinement stopped at step %d of %d: %s; the mesh of step %d is kept",
        step,
        total,
        trouble,
        step - 1,
    )


def _arrays(points: Tensor, triangles: Tensor) -> tuple[np.ndarray, np.ndarray]:
    return points.cpu().numpy(), triangles.to(torch.int32).cpu().numpy()
