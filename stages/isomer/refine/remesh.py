"""Adaptive remeshing: collapse short edges, split long ones, flip towards valence 6.

After Palfinger, "Continuous remeshing for inverse rendering" (Computer Animation and Virtual
Worlds, 2022), as the reference's ISOMER applies it. The mesh is a `state` (V, C) whose first three
columns are positions and whose other columns follow by interpolation, and faces (F, 3) int64.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stages.geometry.torch_edges import (
    EdgeTable,
    edge_lengths,
    edge_table,
    face_normals,
    pack,
    vertex_degrees,
    vertex_normals,
)
from stages.models.deterministic import any_order

MAX_SPLIT_VERTICES = 1_000_000


def remesh(
    state: Tensor,
    faces: Tensor,
    min_length: Tensor,
    max_length: Tensor,
    generator: torch.Generator,
    max_vertices: int = MAX_SPLIT_VERTICES,
    table: EdgeTable | None = None,
) -> tuple[Tensor, Tensor]:
    """One round of collapse, split, pack and flip.

    min_length, max_length  (V,) edge lengths wanted around each vertex
    generator               on the CPU; one draw of F + 1 numbers a call
    max_vertices            only so many edges are split, the longest first, as this allows
    table                   of the faces, where somebody has it already
    """
    lengths = torch.stack([min_length, max_length], dim=1)
    carried = torch.cat([state, lengths], dim=1)
    table = table or edge_table(faces, len(state))
    normals = vertex_normals(state[:, :3], faces)
    # No float is added to another below.
    with any_order():
        marked = mark_bad_faces(
            state[:, :3], faces, table.ends, table.of_side, normals, min_length, generator
        )
        wanted = min_length[table.ends].mean(dim=1)
        shortness = (1.0 - edge_lengths(state[:, :3], table.ends) / wanted).clamp(min=0.0)
        carried, faces = collapse(carried, faces, table.ends, shortness + marked)
        carried, faces = split(carried, faces, carried[:, -1], max_vertices)
        carried, faces = pack(carried, faces)
        faces = flip(carried[:, :3], faces)
    return carried[:, :-2], faces


def mark_bad_faces(
    positions: Tensor,
    faces: Tensor,
    ends: Tensor,
    of_side: Tensor,
    normals: Tensor,
    min_length: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """(E,) bool: one edge of every folded or tiny face, to be collapsed.

    Folded: it looks away from its corners' normals. Tiny: its area is below half the squared
    minimal length. Of its sides, the shortest is taken in 80 % of cases, else one of the others.
    """
    # The reference keeps a dummy face in front of the others; its draw is skipped here.
    draws = torch.randint(0, 10, (len(faces) + 1,), generator=generator)[1:]
    choice = draws.clamp(max=2).to(faces.device)
    marked = torch.zeros(len(ends), dtype=torch.bool, device=faces.device)
    if _loops(faces):
        from stages.isomer.refine.remesh_kernels import mark

        mark(*_arrays(positions, faces, ends, of_side, normals, min_length, choice, marked))
        return marked
    face_normal = face_normals(positions, faces)
    folded = (face_normal * normals[faces].sum(dim=1)).sum(dim=1) < 0.0
    tiny = face_normal.norm(dim=1) < min_length[faces].mean(dim=1) ** 2
    bad = torch.nonzero(folded | tiny)[:, 0]
    sides = of_side.index_select(0, bad)
    longest_first = edge_lengths(positions, ends)[sides].argsort(dim=1, descending=True)
    chosen = sides.gather(1, longest_first.gather(1, choice.index_select(0, bad)[:, None]))
    marked[chosen[:, 0]] = True
    return marked


def collapse(state: Tensor, faces: Tensor, ends: Tensor, priority: Tensor) -> tuple[Tensor, Tensor]:
    """Merge the ends of an independent set of the edges with priority > 0.

    An edge wins where no edge within three steps has a higher priority, and if its ends have at
    most two neighbours in common (the link condition). The merged vertex is the mean of both.
    Rows of `state` are kept; `pack` removes what is no longer used.
    """
    a, b = _chosen(ends, priority, len(state)).T
    merged = state.clone()
    merged[a] = (state[a] + state[b]) / 2.0
    target = torch.arange(len(state), device=faces.device)
    target[b] = a
    faces = target[faces]
    following = faces.roll(-1, dims=1)
    return merged, faces[(faces != following).all(dim=1)]


def _chosen(ends: Tensor, priority: Tensor, vertex_count: int) -> Tensor:
    """(N, 2) the ends of the edges that `collapse` merges."""
    if _loops(ends):
        from stages.isomer.refine.remesh_kernels import choose

        found = torch.empty(len(ends), dtype=torch.bool)
        one, other = _arrays(ends, priority)
        choose(one, other, vertex_count, found.numpy())
        return ends[found]
    chosen = ends[_local_winners(ends, priority, vertex_count)]
    return chosen[_common_neighbours(ends, chosen, vertex_count) <= 2]


def _loops(tensor: Tensor) -> bool:
    """Whether compiled loops take the place of tensor operations, which on a CPU are slower."""
    return tensor.device.type == "cpu"


def _arrays(*tensors: Tensor) -> tuple[np.ndarray, ...]:
    return tuple(tensor.contiguous().numpy() for tensor in tensors)


def _local_winners(ends: Tensor, priority: Tensor, vertex_count: int) -> Tensor:
    """(E,) bool: edges with priority > 0 that outrank every other within three steps."""
    order = priority.argsort(stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    at_vertex = torch.zeros(vertex_count, dtype=rank.dtype, device=rank.device)
    reached = rank
    for _ in range(3):
        for k in range(2):
            at_vertex.scatter_reduce_(0, ends[:, k], reached, "amax")
        reached = at_vertex[ends].amax(dim=1)
    return (reached == rank) & (priority > 0.0)


def _common_neighbours(ends: Tensor, chosen: Tensor, vertex_count: int) -> Tensor:
    """(N,) how many vertices both ends of each chosen edge are connected to.

    Winners lie three steps apart, so that no vertex touches two of them.
    """
    owner = torch.full((vertex_count,), -1, dtype=torch.int64, device=ends.device)
    numbers = torch.arange(len(chosen), device=ends.device)
    owner[chosen[:, 0]] = numbers
    owner[chosen[:, 1]] = numbers
    touched = torch.zeros(vertex_count, dtype=torch.int64, device=ends.device)
    by = torch.zeros(vertex_count, dtype=torch.int64, device=ends.device)
    for near, far in ((0, 1), (1, 0)):
        outer = (owner[ends[:, near]] >= 0) & (owner[ends[:, far]] < 0)
        outer_ends = ends.index_select(0, torch.nonzero(outer)[:, 0])
        inner, vertex = outer_ends[:, near], outer_ends[:, far]
        touched.index_add_(0, vertex, torch.ones_like(vertex))
        by[vertex] = owner[inner]
    count = torch.zeros(len(chosen), dtype=torch.int64, device=ends.device)
    return count.index_add_(0, by, (touched >= 2).to(torch.int64)) if len(chosen) else count


def split(
    state: Tensor, faces: Tensor, max_length: Tensor, max_vertices: int = MAX_SPLIT_VERTICES
) -> tuple[Tensor, Tensor]:
    """Halve every edge longer than the mean `max_length` (V,) of its ends.

    A face with n split sides becomes n + 1 faces. Where that would need more rows of `state` than
    `max_vertices`, the longest edges are taken.
    """
    table = edge_table(faces, len(state))
    ends = table.ends
    length = edge_lengths(state[:, :3], ends)
    long = torch.nonzero(length > max_length[ends].mean(dim=1))[:, 0]
    room = max_vertices - len(state)
    if len(long) > room:
        # Rows that no face uses any more are no vertices.
        room = max(0, max_vertices - _used(faces, len(state)))
    if len(long) > room:
        shortest_first = length.index_select(0, long).argsort(stable=True)
        long = long.index_select(0, shortest_first[len(long) - room :]).sort()[0]
    midpoint = torch.full((len(ends),), -1, dtype=torch.int64, device=faces.device)
    midpoint[long] = len(state) + torch.arange(len(long), device=faces.device)
    state = torch.cat([state, state[ends.index_select(0, long)].mean(dim=1)])
    sides = midpoint[table.of_side]
    if _loops(faces):
        from stages.isomer.refine.remesh_kernels import split_faces

        divided = faces.new_empty(len(faces) + int((sides >= 0).sum()), 3)
        split_faces(*_arrays(faces, sides, divided))
        return state, divided
    has = sides >= 0
    shrunk = torch.where(has, sides, faces)
    before = shrunk.roll(1, dims=1)
    k, cut = torch.nonzero(has.T).T
    parts = torch.stack([faces[cut, k], sides[cut, k], before[cut, k]], dim=1)
    return state, torch.cat([shrunk, parts])


def _used(faces: Tensor, vertex_count: int) -> int:
    """How many vertices the faces use."""
    used = torch.zeros(vertex_count, dtype=torch.bool, device=faces.device)
    used[faces.reshape(-1)] = True
    return int(used.sum())


def flip(positions: Tensor, faces: Tensor, stable: bool = True) -> Tensor:
    """Turn edges where that brings the valences closer to 6; one pass.

    With e0, e1 an edge's ends and L, R the corners opposite to it on the left and right, the sum
    of squared deviations changes by twice 2 + deg L + deg R - deg e0 - deg e1. Neither new face
    may fold over. Faces keep their orientation. Equal gains rank in the order of their edges;
    unless `stable`, in the order that torch likes, as in the reference.
    """
    table = edge_table(faces, len(positions))
    if stable and _loops(faces):
        from stages.isomer.refine.remesh_kernels import flip_edges

        flipped = faces.clone()
        shared = (table.ends, table.of_side, table.face_count)
        flip_edges(*_arrays(positions, faces, *shared, flipped))
        return flipped
    sides = table.of_side.reshape(-1)
    backward = (faces > faces.roll(-1, dims=1)).reshape(-1)
    beside = torch.full((2 * len(table.ends),), -1, dtype=torch.int64, device=faces.device)
    beside[sides + backward * len(table.ends)] = torch.arange(len(sides), device=faces.device)
    left, right = beside.view(2, -1)
    inner = torch.nonzero((left >= 0) & (right >= 0) & (table.face_count == 2))[:, 0]
    opposite = faces.roll(-2, dims=1).reshape(-1)
    left, right = left[inner], right[inner]
    e0, e1 = table.ends[inner].T
    corner_l, corner_r = opposite[left], opposite[right]
    degree = vertex_degrees(table.ends, len(positions))
    delta = 2 + degree[corner_l] + degree[corner_r] - degree[e0] - degree[e1]
    gain = torch.nonzero(delta < 0)[:, 0]
    roles = torch.stack([e0, e1, corner_l, corner_r], dim=1).index_select(0, gain)
    left, right, delta = (each.index_select(0, gain) for each in (left, right, delta))
    order = delta.argsort(descending=True, stable=stable)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    at_vertex = torch.full((len(positions),), -1, dtype=torch.int64, device=faces.device)
    for k in range(4):
        at_vertex.scatter_reduce_(0, roles[:, k], rank, "amax")
    wins = rank == at_vertex[roles].amax(dim=1)
    winners = torch.nonzero(wins & _stays_unfolded(positions, roles))[:, 0]
    roles, left, right = (each.index_select(0, winners) for each in (roles, left, right))
    e0, e1, corner_l, corner_r = roles.T
    flipped = faces.clone()
    flipped[left // 3] = torch.stack([e0, corner_r, corner_l], dim=1)
    flipped[right // 3] = torch.stack([e1, corner_l, corner_r], dim=1)
    return flipped


def _stays_unfolded(positions: Tensor, roles: Tensor) -> Tensor:
    """(N,) bool: both faces after the flip look to the side of the two before it."""
    origin, *others = (positions[roles[:, k]] for k in range(4))
    e1, l, r = (other - origin for other in others)  # noqa: E741 (the names of the formula)
    cross = torch.linalg.cross
    before = cross(e1, l) + cross(r, e1)
    first = (before * cross(r, l)).sum(dim=1) > 0.0
    second = (before * cross(l - e1, r - e1)).sum(dim=1) > 0.0
    return first & second
