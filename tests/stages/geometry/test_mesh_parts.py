"""Parts of a mesh: which hang together, and which enclose nothing."""

from __future__ import annotations

import numpy as np
import trimesh

from stages.geometry.mesh_parts import in_flat_parts, part_of_faces

SIDES = np.array([(0, 2, 1), (0, 3, 2), (0, 1, 3), (1, 2, 3)])


def test_only_parts_that_enclose_nothing_are_flat_however_far_they_lie() -> None:
    ball = trimesh.creation.icosphere(2)
    small = 0.02 * np.array([(1, 1, 1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1)], np.float64)
    pressed = np.array([(3, 4, 5), (3.1, 4, 5), (3, 4.1, 5), (3.1, 4.1, 5)])
    vertices = np.concatenate([ball.vertices, small + 5.0, pressed])
    count = len(ball.vertices)
    faces = np.concatenate([ball.faces, SIDES + count, SIDES + count + 4])
    part = part_of_faces(faces, len(vertices))
    assert [len(np.unique(part[some])) for some in (slice(0, -8), slice(-8, -4))] == [1, 1]
    flat, parts = in_flat_parts(vertices, faces)
    assert parts == 1
    assert np.flatnonzero(flat).tolist() == [len(faces) - 4 + k for k in range(4)]
