"""From a coarse mesh and normal tiles to a refined mesh: targets, start, bounds, loop."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from stages.contract import BadInput, Context, Mesh
from stages.geometry.cameras import bundle_cameras
from stages.geometry.numpy_edges import compact
from stages.isomer.refine.bounds import bound
from stages.isomer.refine.loop import Plan, Progress, Refiner
from stages.isomer.refine.optimizer import StepRates
from stages.isomer.refine.start import choose_start, misfit
from stages.isomer.refine.targets import Targets
from stages.isomer.refine.unseen import eaten, shown
from stages.models.deterministic import repeatable

if TYPE_CHECKING:
    from stages.geometry.diffrender.views import Views
    from stages.geometry.raster import Rasterizer
    from stages.isomer.params import IsomerParams

MOST_THREADS = 2
"""Of torch while it refines. OpenMP's threads wait for each other by spinning, and four pictures of
512 x 512 are little work to share: on two shared cores, eight steps of the dog took 4.3 s with one
thread and 14 s with two; on 16 cores, eight threads took 7.0 s to render where one took 4.6 s on
two. The rasteriser has threads of its own."""


def refine(
    mesh: Mesh,
    normal_tiles: np.ndarray,
    params: IsomerParams,
    rasterizer: Rasterizer,
    context: Context,
    progress: Progress,
    mask: np.ndarray | None = None,
) -> Mesh:
    """Fit a mesh to normal tiles (4, S, S, 3) in [0, 1] and to their silhouettes.

    mask  (4, S, S) bool; None: what is not white in the tiles

    Raises BadInput for tiles or a mesh that cannot be used, StageError for a mesh that explodes in
    the first step (internal) or that may need more memory than there is (out_of_memory).
    """
    plans = stage_plans(params)
    targets = make_targets(normal_tiles, params, mask, context.threads)
    vertices, faces = compact(mesh.vertices, mesh.faces)
    if not len(faces):
        raise BadInput("coarse_mesh: all its faces are degenerate")
    with repeatable(context.device), few_threads(context.threads):
        trusts = params.objective == "improved"
        views = targets.views(rasterizer, context.device, context.threads)
        if params.objective == "improved":
            chosen = choose_start(
                vertices,
                faces,
                params.start,
                targets,
                normal_tiles,
                params.radius,
                views,
                context.threads,
                params.max_vertices,
            )
            vertices, faces = chosen.vertices, chosen.faces
            trusts = not chosen.fused
            progress(0, chosen.note)
        most = vertex_limit(params, len(vertices))
        rescale = params.objective == "improved"
        plans, limits = bound(vertices, faces, plans, most, targets.mask.size, rescale)
        limits.require(context.device)
        progress(0, str(limits))
        refiner = Refiner(
            targets,
            rasterizer,
            context.device,
            params.objective,
            most,
            trusts,
            context.threads,
        )
        found = Mesh(*refiner.run(vertices, faces, plans, progress))
        if params.objective == "improved":
            found, why = better(Mesh(vertices, faces), found, trusts, targets, views, context)
            if why:
                progress(sum(plan.steps for plan in plans), why)
    return found


def better(
    start: Mesh,
    found: Mesh,
    trusts: bool,
    targets: Targets,
    views: Views,
    context: Context,
) -> tuple[Mesh, str]:
    """The refined mesh, or the one that it started from and why that is the better one.

    trusts  the start tells more than the pictures; one that was made of them fits them anyway
    """
    share = shown(start.vertices, start.faces, views)
    if lost := eaten(start.vertices, share, found.vertices):
        why = (
            f"refinement moved what no view shows by {lost:.2f}, more than what the views show: "
            "the mesh that it started from is kept"
        )
        context.warn(why, degraded=True)
        return start, why
    if not trusts:
        return found, ""
    before, after = (misfit(m.vertices, m.faces, targets, views) for m in (start, found))
    if after > before:
        return start, "the mesh that it started from fits better, and is kept"
    return found, ""


@contextmanager
def few_threads(threads: int) -> Iterator[None]:
    """Inside, torch computes in half of so many threads, and no more than `MOST_THREADS`.

    Afterwards as before: in one process with other stages their networks want them all.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, min(MOST_THREADS, threads // 2)))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def vertex_limit(params: IsomerParams, start: int) -> int:
    """The most vertices that are of use: `max_vertices`, or those of `target_faces` faces.

    More would be reduced afterwards and is no better: the vase ended at 31.4 dB of normal PSNR
    either way, in 47 s instead of 78. Objective reference keeps the reference's edge lengths.

    start  vertices of the mesh that refinement starts from
    """
    if params.target_faces is None or params.objective == "reference":
        return params.max_vertices
    return min(params.max_vertices, max(params.target_faces // 2, start))


def stage_plans(params: IsomerParams) -> tuple[Plan, ...]:
    """ISOMER's two stages with the reference's schedules."""

    def schedule(edges: tuple[float, float], decay: float, ramp: float, gain: float) -> StepRates:
        return StepRates(
            rate=params.learning_rate,
            decay=decay,
            ramp=ramp,
            gain=gain,
            shortest=min(edges),
            longest=max(edges),
            laplacian=params.laplacian,
        )

    return (
        Plan("shape", params.stage1_steps, schedule(params.stage1_edges, 0.995, 1.0, 0.05)),
        Plan("detail", params.stage2_steps, schedule(params.stage2_edges, 0.99, 5.0, 0.2)),
    )


def make_targets(
    normal_tiles: np.ndarray,
    params: IsomerParams,
    mask: np.ndarray | None = None,
    threads: int = 1,
) -> Targets:
    """Targets whose silhouettes are `mask`, or the pixels that the object covers by half or more.

    Half, because silhouettes of every pixel with a trace of the object are half a pixel too large
    all round: 8 % of Chamfer and 1.2 dB of the vase, 10 + 50 steps of objective reference.
    Raises BadInput if a tile shows no object.
    """
    from stages.geometry.silhouettes import clean, coverage

    cover = clean(coverage(normal_tiles)) if mask is None else mask.astype(np.float64)
    return Targets.from_tiles(
        normal_tiles,
        cover > 0.5,
        cover,
        bundle_cameras(params.radius),
        params.geometry_weights,
        threads,
    )
