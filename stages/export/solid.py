"""A mesh made fit for printing: watertight, and every edge shared by exactly two faces.

Files for printing name vertices by their place, so two that round to one place are one. What is
mended: folded and repeated faces, faces that are turned the wrong way, sheets that touch along an
edge, holes. Flat parts, which enclose nothing, are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from stages.export.holes import fill
from stages.export.model import Model
from stages.isomer.repair import moved_apart, repair


class NotClosedError(ValueError):
    """The mesh cannot be made watertight; the text says why."""


@dataclass(frozen=True)
class Defects:
    """What keeps a mesh from being a solid.

    open_sides   sides of faces that no other face continues
    crowded      edges with more than two faces
    """

    open_sides: int
    crowded: int

    def __bool__(self) -> bool:
        return bool(self.open_sides or self.crowded)


def defects(vertices: np.ndarray, faces: np.ndarray) -> Defects:
    """Of a mesh as a reader sees it that joins vertices of equal float32 coordinates."""
    _, joined = np.unique(vertices.astype(np.float32), axis=0, return_inverse=True)
    corners = joined.reshape(-1)[faces].astype(np.int64)
    count = len(vertices)
    ahead = _sides(corners, count)
    back = _sides(corners[:, ::-1], count)
    return Defects(
        int((~np.isin(ahead, back)).sum()),
        int((np.unique(ahead, return_counts=True)[1] > 1).sum()),
    )


def volume(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F,) signed volumes between each face and the middle of the mesh: their sum is a solid's."""
    points = vertices.astype(np.float64) - vertices.mean(axis=0)
    a, b, c = (points[faces[:, corner]] for corner in range(3))
    return np.asarray(np.einsum("fc,fc->f", a, np.cross(b, c)) / 6.0)


def closed(model: Model) -> tuple[Model, list[str]]:
    """The model as a solid, and sentences on what was mended. Raises NotClosedError.

    Coordinates are rounded to float32. Faces keep their texture coordinates; those that close a
    hole have one colour each. Normals and normal map are dropped: formats for printing have none.
    """
    model = _rounded(model)
    told: list[str] = []
    model = _unfolded(model)
    if not len(model.faces):
        raise NotClosedError("it has no faces with an area")
    if defects(model.vertices, model.faces):
        model = _turned_alike(model)
        vertices, faces = repair(model.vertices, model.faces, "split")
        model = _with_vertices(model, vertices, faces)
        model, holes = fill(model)
        if holes:
            told.append(f"{holes} hole{'s were' if holes > 1 else ' was'} closed")
    model, flat = _without_flat(model)
    if flat:
        told.append(f"{flat} flat part{'s were' if flat > 1 else ' was'} left out")
    model = replace(model, vertices=moved_apart(model.vertices, model.faces))
    left = defects(model.vertices, model.faces)
    if left:
        raise NotClosedError(
            f"{left.crowded} edges have more than two faces and {left.open_sides} sides are open"
        )
    if volume(model.vertices, model.faces).sum() < 0.0:
        model = _reversed(model, np.ones(len(model.faces), bool))
        told.append("it was inside out, and was turned")
    return model, told


def _sides(faces: np.ndarray, count: int) -> np.ndarray:
    """(F * 3,) a number for each directed side."""
    return np.asarray((faces * count + np.roll(faces, -1, axis=1)).reshape(-1))


def _rounded(model: Model) -> Model:
    vertices, inverse = np.unique(model.vertices.astype(np.float32), axis=0, return_inverse=True)
    colors = model.colors
    if colors is not None:
        kept = np.empty((len(vertices), 3), np.uint8)
        kept[inverse.reshape(-1)] = colors
        colors = kept
    faces = inverse.reshape(-1)[model.faces].astype(np.int32)
    return Model(
        vertices.astype(np.float64),
        faces,
        None,
        model.uv,
        model.color_png,
        colors=colors,
    )


def _unfolded(model: Model) -> Model:
    """Without faces that name a vertex twice; of faces over the same three vertices, those that
    face each other go in pairs, and of the rest one stays."""
    faces = model.faces
    ordered = np.sort(faces, axis=1)
    proper = (ordered[:, 0] != ordered[:, 1]) & (ordered[:, 1] != ordered[:, 2])
    _, group = np.unique(ordered, axis=0, return_inverse=True)
    group = group.reshape(-1)
    lowest = faces.argmin(axis=1)
    rows = np.arange(len(faces))
    way = np.where(faces[rows, (lowest + 1) % 3] == ordered[:, 1], 1, -1)
    balance = np.bincount(group, way)
    wanted = np.sign(balance[group]) == way
    order = np.flatnonzero(proper & wanted)
    _, first = np.unique(group[order], return_index=True)
    return _chosen(model, np.sort(order[first]))


def _turned_alike(model: Model) -> Model:
    """Neighbours that disagree about what is outside made to agree, as the most of each part do.

    Every face is there twice in a graph, as it is and turned over; links join what agrees.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    from stages.geometry.numpy_edges import find_edges

    count = len(model.faces)
    edges = find_edges(model.faces, len(model.vertices))
    sides = edges.of_side.reshape(-1)
    order = np.argsort(sides, kind="stable")
    pairs = (sides[order[1:]] == sides[order[:-1]]) & (edges.face_count[sides[order[1:]]] == 2)
    one, two = order[:-1][pairs], order[1:][pairs]
    start = model.faces.reshape(-1)
    agree = start[one] != start[two]
    f, g = one // 3, two // 3
    rows = np.concatenate([f, f + count])
    columns = np.concatenate([np.where(agree, g, g + count), np.where(agree, g + count, g)])
    graph = coo_array((np.ones(len(rows), bool), (rows, columns)), shape=(2 * count, 2 * count))
    part = connected_components(graph, directed=False)[1]
    upright, turned = part[:count], part[count:]
    if (upright == turned).any():
        raise NotClosedError("it has only one side, like a Möbius strip")
    votes = np.bincount(upright, minlength=int(part.max()) + 1)
    over = (votes[turned] > votes[upright]) | (
        (votes[turned] == votes[upright]) & (turned < upright)
    )
    return _reversed(model, over)


def _without_flat(model: Model) -> tuple[Model, int]:
    """Without parts that enclose nothing, and how many there were."""
    from stages.geometry.mesh_parts import in_flat_parts

    flat, count = in_flat_parts(model.vertices, model.faces)
    if flat.all():
        raise NotClosedError("it is flat: a sheet encloses nothing that could be printed")
    return _chosen(model, np.flatnonzero(~flat)), count


def _reversed(model: Model, which: np.ndarray) -> Model:
    faces = np.where(which[:, None], model.faces[:, ::-1], model.faces)
    uv = model.uv
    if uv is not None:
        uv = np.where(which[:, None, None], uv[:, ::-1], uv)
    return replace(model, faces=faces, uv=uv)


def _chosen(model: Model, kept: np.ndarray) -> Model:
    """Some of the faces, and the vertices that they use."""
    used, numbers = np.unique(model.faces[kept], return_inverse=True)
    return replace(
        model,
        vertices=model.vertices[used],
        faces=numbers.reshape(-1, 3).astype(np.int32),
        uv=None if model.uv is None else model.uv[kept],
        colors=None if model.colors is None else model.colors[used],
    )


def _with_vertices(model: Model, vertices: np.ndarray, faces: np.ndarray) -> Model:
    """The same faces over more vertices, the old ones first."""
    colors = model.colors
    if colors is not None and len(vertices) > len(model.vertices):
        source = np.zeros(len(vertices), np.int64)
        source[faces] = model.faces
        colors = colors[source]
    return replace(model, vertices=vertices, faces=faces.astype(np.int32), colors=colors)
