"""How thick is the object behind each pixel? A smooth half-depth from its silhouette alone.

With f the solution of the screened Poisson equation

    -laplace(f) + f / l^2 = 4 inside the silhouette,  f = 0 on its outline,

the half-depth is sqrt(f): a disc of radius R << l becomes a sphere, a strip is thinner the
narrower it is, and no part, however wide, gets thicker than 2 l. The square root makes the rim
round. On the outline the equation is discretised with the true distance from a node to the
outline (Gibou et al., "A Second-Order-Accurate Symmetric Discretization of the Poisson Equation
on Irregular Domains", J. Comput. Phys. 176, 2002), so that the rim does not show the grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

MIN_REACH = 0.05
"""Shortest distance to the outline in grid steps: keeps the matrix well conditioned."""

STEPS = ((0, 1), (0, -1), (1, 0), (-1, 0))


@dataclass(frozen=True)
class Membrane:
    """The factorised equation: solved for a half-depth, or for colours that span the outline.

    inside      (N, N) bool, the unknowns
    screen      1 / l^2
    backsolve   (U, C) right-hand sides -> (U, C) solutions
    rim_weight  (U,) weight of the outline's value in each unknown's equation
    """

    inside: np.ndarray
    screen: float
    backsolve: Callable[[np.ndarray], np.ndarray]
    rim_weight: np.ndarray

    def solve(self, source: np.ndarray, rim: np.ndarray) -> np.ndarray:
        """Solve -laplace(u) + u / l^2 = source with u = rim on the outline.

        source, rim  (N, N, C); read at the nodes inside (rim: at the node next to the outline)
        Returns (N, N, C) float64, 0 outside.
        """
        right = source[self.inside] + self.rim_weight[:, None] * rim[self.inside]
        result = np.zeros(source.shape)
        result[self.inside] = self.backsolve(right)
        return result


def membrane(coverage: np.ndarray, step: float, reach: float, vertical: float = 1.0) -> Membrane:
    """Set up the equation of the module's docstring.

    coverage  (N, N) in [0, 1]; a node is inside where it is > 0.5, the outline runs where linear
              interpolation between nodes gives 0.5
    step      distance of neighbouring nodes, scene units
    reach     l, scene units
    vertical  weight of the second derivative along the picture's columns; < 1 spreads the
              outline's values along the rows
    """
    inside = coverage > 0.5
    count = int(inside.sum())
    index = np.full(inside.shape, -1, np.int64)
    index[inside] = np.arange(count)
    diagonal = np.full(count, 1.0 / reach**2)
    rim_weight = np.zeros(count)
    rows, columns, links = [], [], []
    for down, right in STEPS:
        stiffness = (vertical if down else 1.0) / step**2
        here = np.flatnonzero(inside)
        i, j = np.divmod(here, inside.shape[1])
        y, x = i + down, j + right
        valid = (y >= 0) & (y < inside.shape[0]) & (x >= 0) & (x < inside.shape[1])
        y, x = np.clip(y, 0, inside.shape[0] - 1), np.clip(x, 0, inside.shape[1] - 1)
        to_inside = valid & inside[y, x]
        rows.append(index[i, j][to_inside])
        columns.append(index[y, x][to_inside])
        links.append(np.full(int(to_inside.sum()), -stiffness))
        # Links to other nodes weigh 1, links to the outline 1 / distance.
        own, other = coverage[i, j], np.where(valid, coverage[y, x], 0.0)
        distance = np.clip((own - 0.5) / np.maximum(own - other, 1e-6), MIN_REACH, 1.0)
        weight = np.where(to_inside, 1.0, 1.0 / distance) * stiffness
        diagonal += weight
        rim_weight += np.where(to_inside, 0.0, weight)
    entries = (np.concatenate(links), (np.concatenate(rows), np.concatenate(columns)))
    matrix = sp.csc_matrix(entries, shape=(count, count)) + sp.diags(diagonal, format="csc")
    # MMD on A + A^T is the ordering for symmetric matrices: about half the fill-in of COLAMD.
    factor = spla.splu(
        matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
    )
    return Membrane(inside, 1.0 / reach**2, factor.solve, rim_weight)


def half_depth(sheet: Membrane) -> np.ndarray:
    """(N, N) float64 >= 0, scene units: sqrt of the solution, 0 outside."""
    source = np.full((*sheet.inside.shape, 1), 4.0)
    return np.sqrt(np.maximum(sheet.solve(source, np.zeros_like(source))[..., 0], 0.0))
