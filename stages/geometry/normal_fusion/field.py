"""One signed distance from four silhouettes and four normal maps.

The visual hull of four views has square cross-sections, but the normal maps tell how the surface
turns inside it. Coarse to fine, these steps repeat on a voxel grid (field F, hull distance D):

  1. rays find the surface that each view sees in F;
  2. voxels near it take the mean normal g of the views that see them, with a weight w;
  3. F becomes the minimum of

         sum w |grad F - g|^2  +  sum c (F - D)^2     subject to  F >= D,

     a screened Poisson equation (Kazhdan and Hoppe, "Screened Poisson Surface Reconstruction",
     ACM Trans. Graph. 32, 2013) with the hull as an obstacle. The screen c says where the surface
     touches the hull: surely once on every ray along an outline, where F is lowest on it; and
     perhaps where the hull's own normal is the one that the views see.

A ray through a silhouette that meets no surface pulls F below zero where it is lowest, so thin
parts survive. What no view sees keeps the hull's slope inside the object, and is flat below it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import scipy.ndimage as ndi

from stages.geometry.jit import plain_array
from stages.geometry.normal_fusion import kernels, solving
from stages.geometry.normal_fusion.observe import Observations

# The numbers below were chosen on the dog, vase and helmet of the ISOMER anchor cases and on
# shapes made in code (ball, torus, boxes, an animal of capsules).
HALF_EXTENT = 1.3
"""Half side of the cube searched for the object, frame W. A camera sees 1.11 at the origin's
depth, and more behind it."""
MARGIN = 3
"""Nodes outside the hull's bounding box, on each side."""
BAND = 4.0
"""Steps in front of a surface over which its normals are believed; bounds the way that the
surface moves in one round."""
OUTLINE = 16.0
"""Screen, relative to a fully seen edge, where a ray along the outline touches the surface."""
CONTACT = 1.0
"""Screen per unit of length where the hull's normal agrees with the normal maps: at 20 the
surface clings to the hull (dog: Chamfer 0.0157 against 0.0109), at 0 boxes sag (0.044)."""
AGREE_FROM, AGREE_FULLY = 0.96, 0.995
"""Cosines between both normals (16 and 6 degrees)."""
UNSEEN = 0.02
"""Weight below which a voxel counts as seen by no view."""
DOWN = 0.05
"""Weight of the assumption that unseen undersides are flat: it halves the error of boxes and vases
that stand, and cuts a cap of 0.03 off a ball; twice as much spoils the rim of the underside."""
FLOOR = 0.02
"""Weight of the slope that is kept where no view says anything."""
GRAIN = 1 << 17
"""Voxels that are worth handing to a thread: the cheapest kernel takes 0.1 ms for them, handing
them over half of that. On 16 cores smaller pieces used to take most of the time."""
WORTH = 4
"""Voxels whose work a node of a sweep is."""
OVERRELAXATION = 1.85
SWEEPS = 40


@dataclass(frozen=True)
class Grid:
    """Nodes at origin + step * (i, j, k), in frame W."""

    origin: np.ndarray
    step: float
    shape: tuple[int, int, int]

    @classmethod
    def around(cls, low: np.ndarray, high: np.ndarray, nodes: int) -> Grid:
        """A grid over the box low..high, `nodes` along its longest side with the margins."""
        step = float((high - low).max()) / (nodes - 2 * MARGIN - 1)
        x, y, z = (np.ceil((high - low) / step).astype(int) + 2 * MARGIN + 1).tolist()
        origin = (low + high) / 2.0 - step * (np.array([x, y, z]) - 1) / 2.0
        return cls(plain_array(origin, np.float64), step, (x, y, z))

    def resample(self, field: np.ndarray, target: Grid) -> np.ndarray:
        """`field` of this grid at the nodes of `target`, float32."""
        axes = [
            (target.origin[a] + target.step * np.arange(target.shape[a]) - self.origin[a])
            / self.step
            for a in range(3)
        ]
        nodes = np.meshgrid(*axes, indexing="ij")
        return plain_array(ndi.map_coordinates(field, nodes, order=1, mode="nearest"), np.float32)


@dataclass(frozen=True)
class Level:
    """One resolution: nodes along the longest side, and how often the steps are repeated."""

    nodes: int
    rounds: int


class Fusion:
    """Solves for the field. The kernels run in `threads` Python threads; same result for any."""

    def __init__(self, seen: Observations, threads: int) -> None:
        self._seen = seen
        self._threads = max(1, threads)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="hull")

    def run(
        self, levels: tuple[Level, ...], progress: Callable[[int, int], None]
    ) -> tuple[np.ndarray, Grid]:
        """Returns the field, (X, Y, Z) float32, negative inside, and its grid.

        progress(step, total) is called before each round. Raises ValueError if the silhouettes
        have no point in common.
        """
        low, high = self.bounds
        total, done = sum(level.rounds for level in levels), 0
        grid = Grid.around(low, high, levels[0].nodes)
        field = self.carve(grid)
        for level in levels:
            finer = Grid.around(low, high, level.nodes)
            hull = self.carve(finer)
            field = np.maximum(grid.resample(field, finer), hull)
            grid = finer
            for _ in range(level.rounds):
                progress(done, total)
                field = self._round(field, hull, grid)
                done += 1
        return field, grid

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def carve(self, grid: Grid) -> np.ndarray:
        """(X, Y, Z) float32 signed distance to the visual hull."""
        hull = np.empty(grid.shape, np.float32)
        seen = self._seen

        def work(begin: int, end: int) -> None:
            kernels.carve(seen.distance, seen.views, grid.origin, grid.step, hull, begin, end)

        self._split(grid.shape[0], hull.size, work)
        return hull

    def _split(self, count: int, voxels: int, work: Callable[[int, int], None]) -> None:
        """work(begin, end) for all of 0..count, which stand for so many voxels, in pieces."""
        pieces = min(4 * self._threads, max(1, voxels // GRAIN))
        if pieces == 1:
            work(0, count)
            return
        edges = np.linspace(0, count, pieces + 1).astype(int).tolist()
        list(self._pool.map(work, edges[:-1], edges[1:]))

    @functools.cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners of a box around the hull, from a coarse grid. Raises ValueError without one."""
        reach = np.full(3, HALF_EXTENT)
        grid = Grid.around(-reach, reach, 48)
        # A part thinner than the step may lie between nodes: half a diagonal from one of them.
        near = np.argwhere(self.carve(grid) < 0.87 * grid.step)
        if len(near) == 0:
            raise ValueError("the silhouettes of the four views have no point in common")
        return (
            grid.origin + grid.step * near.min(axis=0),
            grid.origin + grid.step * near.max(axis=0),
        )

    def _round(self, field: np.ndarray, hull: np.ndarray, grid: Grid) -> np.ndarray:
        seen, origin, step = self._seen, grid.origin, grid.step
        rays = min(seen.distance.shape[1], 2 * max(grid.shape))
        count = len(seen.views)
        depths = np.empty((count, rays, rays), np.float32)
        lowest = np.empty((count, rays, rays, 3), np.int16)

        def cast(begin: int, end: int) -> None:
            for k in range(count):
                kernels.cast_rays(
                    field, seen.distance[k], seen.views[k], origin, step,
                    depths[k], lowest[k], begin, end,
                )  # fmt: skip

        self._split(rays, field.size, cast)
        target = np.empty((*grid.shape, 3), np.float32)
        weight = np.empty(grid.shape, np.float32)
        hidden = np.empty(grid.shape, np.bool_)

        def gather(begin: int, end: int) -> None:
            kernels.gather(
                hull, seen.normals, depths, seen.views, origin, step, BAND * step,
                target, weight, hidden, begin, end,
            )  # fmt: skip

        self._split(grid.shape[0], field.size, gather)
        screen, wanted = np.empty(grid.shape, np.float32), hull.copy()
        # The layer |D| < step is two steps thick; per unit of area it weighs CONTACT.
        most = CONTACT * step / 2.0

        def touch(begin: int, end: int) -> None:
            solving.contact(
                hull, target, weight, step, UNSEEN, AGREE_FROM, AGREE_FULLY, most,
                screen, begin, end,
            )  # fmt: skip

        self._split(grid.shape[0], field.size, touch)
        touched = tuple(lowest[lowest[..., 0] >= 0].astype(np.int64).T)
        screen[touched] = OUTLINE
        wanted[touched] = np.maximum(hull[touched], -0.5 * step)

        def flatten(begin: int, end: int) -> None:
            # Cameras at elevation 5 never see what faces down, and objects stand on something flat.
            solving.flatten_underside(field, target, weight, step, UNSEEN, DOWN, begin, end)

        self._split(grid.shape[0], field.size, flatten)
        free = hull < 2.0 * step
        slope, edge = np.zeros((2, *target.shape), np.float32)

        def link(begin: int, end: int) -> None:
            solving.edges(
                field, hull, hidden, target, weight, free, step, FLOOR, slope, edge, begin, end
            )

        self._split(grid.shape[0], field.size, link)
        solved = plain_array(np.maximum(field, hull), np.float32)
        self._relax(solved, hull, free, slope, edge, screen, wanted, step)
        return solved

    def _relax(
        self,
        solved: np.ndarray,
        hull: np.ndarray,
        free: np.ndarray,
        slope: np.ndarray,
        edge: np.ndarray,
        screen: np.ndarray,
        wanted: np.ndarray,
        step: float,
    ) -> None:
        """Red-black sweeps: nodes of even sum, then those of odd sum, which are their neighbours.

        Each is an equation that is written down once, and only free nodes have one.
        """
        counts = np.zeros((len(free), 2), np.int64)
        solving.count_free(free, counts)
        even, odd = counts.sum(axis=0).tolist()
        # Where the nodes of a slice begin: all even ones, then all odd ones.
        first = np.cumsum(counts, axis=0) - counts + (0, even)
        node = np.empty(even + odd, np.int32)
        share, rest = np.empty((even + odd, 6), np.float32), np.empty(even + odd, np.float32)

        def write(begin: int, end: int) -> None:
            solving.equations(
                free, slope, edge, screen, wanted, step, first, node, share, rest, begin, end
            )

        self._split(len(free), free.size, write)
        across, down = free.shape[1] * free.shape[2], free.shape[2]
        flat, floor = solved.reshape(-1), hull.reshape(-1)

        def relax(start: int, begin: int, end: int) -> None:
            solving.relax(
                flat, floor, across, down, node, share, rest, OVERRELAXATION,
                start + begin, start + end,
            )  # fmt: skip

        for _ in range(SWEEPS):
            for start, count in ((0, even), (even, odd)):
                # A node here is the work of some voxels elsewhere.
                self._split(count, WORTH * count, functools.partial(relax, start))
