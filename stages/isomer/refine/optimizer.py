"""The optimiser of continuous remeshing: an Adam whose state travels with the vertices.

After Palfinger, "Continuous remeshing for inverse rendering" (2022), with the constants of the
reference's ISOMER. Everything that belongs to a vertex is one row of a state tensor, so that
remeshing interpolates all of it: position (3), m2 (1), nu (1), m1 (3), edge length (1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stages.geometry.torch_edges import edge_table, neighbour_means
from stages.isomer.refine.remesh import remesh

BETA = 0.8
NU_REFERENCE = 0.3
EDGE_TOLERANCE = 0.5
GRADIENT_LIMIT = 10.0
POSITION, M2, NU, M1, LENGTH = slice(0, 3), slice(3, 4), slice(4, 5), slice(5, 8), slice(8, 9)
COLUMNS = 9


@dataclass(frozen=True)
class StepRates:
    """What differs between ISOMER's stages.

    rate       learning rate before the first decay
    decay      factor on the rate before every step
    ramp       the rate reaches its full value after ramp / (1 - beta) steps
    gain       speed of the edge length controller
    shortest, longest   limits of the target edge length, which starts at the longest
    laplacian  weight of the pull to the neighbours' mean, times the vertex' own speed
    """

    rate: float = 0.3
    decay: float = 0.99
    ramp: float = 5.0
    gain: float = 0.2
    shortest: float = 0.005
    longest: float = 0.02
    laplacian: float = 0.02


class MeshOptimizer:
    """Positions move by lr * l * m1 / sqrt(m2), with l the target edge length.

    vertices (V, 3) float32, faces (F, 3) int64, on any device; carried (V, C) values that only
    travel with the vertices.
    """

    def __init__(
        self, vertices: Tensor, faces: Tensor, schedule: StepRates, carried: Tensor | None = None
    ) -> None:
        self.schedule = schedule
        self.faces = faces
        self.state = torch.zeros(len(vertices), COLUMNS, device=vertices.device)
        if carried is not None:
            self.state = torch.cat([self.state, carried], dim=1)
        self.state[:, POSITION] = vertices
        self.state[:, LENGTH] = schedule.longest
        self._rate = schedule.rate
        self._step = 0
        self.edges = edge_table(faces, len(vertices))

    @property
    def vertices(self) -> Tensor:
        """(V, 3) current positions, detached."""
        return self.state[:, POSITION]

    @property
    def carried(self) -> Tensor:
        """(V, C) values given at the start, as remeshing has interpolated them."""
        return self.state[:, COLUMNS:]

    @torch.no_grad()
    def step(self, gradient: Tensor) -> None:
        """Move all vertices; `gradient` (V, 3) of the loss."""
        plan, state = self.schedule, self.state
        self._rate *= plan.decay
        self._step += 1
        t = self._step
        position, m1 = state[:, POSITION], state[:, M1]
        pull = position - neighbour_means(position, self.edges.ends)
        g = gradient + plan.laplacian * state[:, NU] * pull
        if t > 1:
            limit = GRADIENT_LIMIT * m1.abs()
            g = torch.minimum(torch.maximum(g, -limit), limit)
        # Running means with the bias correction applied at every step.
        keep = BETA * (1.0 - BETA ** (t - 1)) / (1.0 - BETA**t)
        m1 = keep * m1 + (1.0 - keep) * g
        m2 = keep * state[:, M2] + (1.0 - keep) * (g * g).sum(dim=1, keepdim=True)
        u = m1 / (m2.sqrt() + 1e-8)
        nu = u.norm(dim=1, keepdim=True)
        rate = self._rate * min(1.0, t * (1.0 - BETA) / plan.ramp)
        length = state[:, LENGTH]
        grown = length * (1.0 + (nu.mean() - NU_REFERENCE) * plan.gain)
        self.state = torch.cat(
            [
                position - rate * length * u,
                m2,
                nu,
                m1,
                grown.clamp(plan.shortest, plan.longest),
                self.carried,
            ],
            dim=1,
        )

    @torch.no_grad()
    def remesh(self, generator: torch.Generator, max_vertices: int) -> None:
        """Bring the edges to the target length; see `remesh.remesh`."""
        length = self.state[:, LENGTH.start]
        self.state, self.faces = remesh(
            self.state,
            self.faces,
            length * (1.0 - EDGE_TOLERANCE),
            length * (1.0 + EDGE_TOLERANCE),
            generator,
            max_vertices,
            self.edges,
        )
        self.edges = edge_table(self.faces, len(self.state))
