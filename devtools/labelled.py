"""A box with six colours and a knob that has no mirror image, and a ray caster that draws it.

Nothing here uses the project's cameras, encodings or rasterisers: tests hold those against it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SIDES = ("right", "left", "bottom", "top", "back", "front")
"""Faces towards -x, +x, -y, +y, -z and +z of frame W: the object looks towards +z, its own left
hand is on +x."""
PALETTE = {
    "right": (0.9, 0.8, 0.1),
    "left": (0.1, 0.2, 0.9),
    "bottom": (0.1, 0.8, 0.8),
    "top": (0.8, 0.1, 0.8),
    "back": (0.1, 0.7, 0.1),
    "front": (0.9, 0.1, 0.1),
    "knob": (0.3, 0.3, 0.3),
    "nothing": (1.0, 1.0, 1.0),
}
NAMES = tuple(PALETTE)


@dataclass(frozen=True)
class Box:
    """Axis-aligned, with a colour name for each of its faces -x, +x, -y, +y, -z, +z."""

    low: np.ndarray
    high: np.ndarray
    labels: tuple[str, ...]

    def moved(self, matrix: np.ndarray) -> Box:
        """Turned by a signed permutation matrix (3, 3): p -> matrix @ p."""
        ends = np.stack([matrix @ self.low, matrix @ self.high])
        outward = np.repeat(np.eye(3), 2, axis=0) * np.tile([[-1.0], [1.0]], (3, 1))
        target = (outward @ matrix.T @ outward.T).argmax(axis=1)
        labels = dict(zip(target.tolist(), self.labels, strict=True))
        return Box(ends.min(axis=0), ends.max(axis=0), tuple(labels[k] for k in range(6)))


BODY = Box(np.array([-0.42, -0.55, -0.3]), np.array([0.42, 0.3, 0.3]), SIDES)
KNOB = Box(np.array([0.05, 0.2, 0.0]), np.array([0.35, 0.7, 0.25]), ("knob",) * 6)
OBJECT = (BODY, KNOB)
"""In frame W. The knob grows out of the top, to the object's left and front."""


def turn(boxes: tuple[Box, ...], matrix: np.ndarray) -> tuple[Box, ...]:
    return tuple(box.moved(matrix) for box in boxes)


@dataclass(frozen=True)
class Picture:
    """label (S, S) index into NAMES; normal (S, S, 3) outward, 0 where nothing is hit."""

    label: np.ndarray
    normal: np.ndarray

    @property
    def colors(self) -> np.ndarray:
        """(S, S, 3) in [0, 1], on white."""
        return np.array([PALETTE[name] for name in NAMES])[self.label]

    @property
    def hit(self) -> np.ndarray:
        return self.label != NAMES.index("nothing")

    def middle(self) -> str:
        """What is seen a little below the middle, where the body is."""
        size = len(self.label)
        return NAMES[self.label[size * 9 // 16, size // 2]]

    def knob_side(self) -> str:
        """Whether the knob stands left or right of the picture's middle."""
        columns = np.nonzero(self.label == NAMES.index("knob"))[1]
        return "left" if columns.mean() < len(self.label) / 2 else "right"


def cast(boxes: tuple[Box, ...], origin: np.ndarray, rays: np.ndarray) -> Picture:
    """Exact intersections of rays (S, S, 3) from one point with boxes, by the slab method."""
    nearest = np.full(rays.shape[:2], np.inf)
    label = np.full(rays.shape[:2], NAMES.index("nothing"))
    normal = np.zeros(rays.shape)
    rays = np.where(rays == 0.0, 1e-12, rays)
    for box in boxes:
        first, second = (box.low - origin) / rays, (box.high - origin) / rays
        enter, leave = np.minimum(first, second), np.maximum(first, second)
        axis, distance = enter.argmax(axis=-1), enter.max(axis=-1)
        hit = (distance < leave.min(axis=-1)) & (distance > 0.0) & (distance < nearest)
        # A ray that runs towards +x meets the face that looks to -x.
        forward = np.take_along_axis(rays, axis[..., None], axis=-1)[..., 0] > 0.0
        faces = np.array([NAMES.index(name) for name in box.labels])
        label = np.where(hit, faces[2 * axis + ~forward], label)
        outward = np.eye(3)[axis] * np.where(forward, -1.0, 1.0)[..., None]
        normal = np.where(hit[..., None], outward, normal)
        nearest = np.where(hit, distance, nearest)
    return Picture(label, normal)


def look_at(
    eye: np.ndarray, up: np.ndarray, size: int, fovy: float = 30.0
) -> tuple[np.ndarray, np.ndarray]:
    """Axes (3, 3), columns right, up and back, and rays (S, S, 3) of a camera that looks at 0."""
    back = eye / np.linalg.norm(eye)
    right = np.cross(up, back)
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(back, right), back], axis=1)
    steps = ((np.arange(size) + 0.5) / size * 2.0 - 1.0) * np.tan(np.deg2rad(fovy) / 2.0)
    across, down = np.meshgrid(steps, steps)
    return axes, np.stack([across, -down, -np.ones_like(down)], axis=-1) @ axes.T


def mesh_arrays(boxes: tuple[Box, ...], cuts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (V, 3), faces (F, 3), counter-clockwise from outside, and colours (V, 3) uint8.

    Every face of a box has vertices of its own: a grid of `cuts` x `cuts` squares.
    """
    points, triangles, colors, start = [], [], [], 0
    steps = np.linspace(0.0, 1.0, cuts + 1)
    index = np.arange((cuts + 1) ** 2).reshape(cuts + 1, cuts + 1)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    squares = np.stack([a, b, c, a, c, d], axis=-1).reshape(-1, 3)
    for box in boxes:
        for axis in range(3):
            # u x v points along +axis.
            u, v = (axis + 1) % 3, (axis + 2) % 3
            for high in (False, True):
                unit = np.zeros((cuts + 1, cuts + 1, 3))
                unit[..., u], unit[..., v] = steps[:, None], steps[None, :]
                unit[..., axis] = high
                points.append((box.low + unit * (box.high - box.low)).reshape(-1, 3))
                triangles.append(start + (squares if high else squares[:, ::-1]))
                color = np.rint(255.0 * np.array(PALETTE[box.labels[2 * axis + high]]))
                colors.append(np.tile(color, ((cuts + 1) ** 2, 1)))
                start += (cuts + 1) ** 2
    return (
        np.concatenate(points).astype(np.float32),
        np.concatenate(triangles).astype(np.int32),
        np.concatenate(colors).astype(np.uint8),
    )
