"""How far Flux's samplers end from the ODE's true solution, where that can be known.

    python -m bench.networks.samplers [--seeds N]

With the true velocity field of a known distribution the error is the sampler's alone, and random
weights would tell nothing about it. Here the distribution is a mixture of equal Gaussians whose
means lie in a subspace of 8 dimensions, so that velocities bend as the sample decides for one of
them; its velocity field has a closed form. All start at the noise level of strength 0.95 of 20
steps, on the reference's noise levels; the truth is Heun's method with 600 steps and levels that
go on towards 0.

error      relative L2 distance of the end point from the true one, median of the seeds
x default  its ratio to the reference's: Heun, 20 steps
worst      largest error of a seed: a sample that ends at another Gaussian

How real pictures of FLUX differ is not told by this: it needs the published weights.
"""

from __future__ import annotations

import argparse
import statistics

import torch

from orchestrator.system.text import format_table
from stages.flux.schedule import NoiseLevels, Velocity, integrate, noisy_start

STRENGTH = 0.95
SUBSPACE = 8
TRUE_STEPS = 600
FIELDS = {
    "1 Gaussian": (1, 256, 0.5),
    "64 wide": (64, 256, 0.5),
    "64 narrow": (64, 256, 0.1),
    "256 close": (256, 64, 0.3),
    "16 far": (16, 4096, 0.05),
}
"""Gaussians, dimensions of space, standard deviation."""
SAMPLERS = (
    ("heun", 20),
    ("heun_pec", 20),
    ("heun", 14),
    ("heun_pec", 14),
    ("heun", 10),
    ("heun_pec", 37),
)


def mixture(count: int, dimensions: int, deviation: float) -> Velocity:
    """E[noise - data | state] for state = sigma noise + (1 - sigma) data."""
    generator = torch.Generator().manual_seed(count)
    basis, places = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((SUBSPACE, dimensions), (count, SUBSPACE))
    )
    means = places @ basis / SUBSPACE**0.5

    def velocity(state: torch.Tensor, sigma: float, _evaluation: int) -> torch.Tensor:
        data = 1.0 - sigma
        variance = (data * deviation) ** 2 + sigma**2
        apart = state - data * means
        weights = torch.softmax(-apart.square().sum(1) / (2.0 * variance), 0)
        return weights @ ((sigma - data * deviation**2) / variance * apart - means)

    return velocity


def entered_at(sigma: float, steps: int, reuse: bool) -> NoiseLevels:
    """The reference's levels below sigma, with sigma before them."""
    below = [level for level in NoiseLevels.heun(steps, 1.0).sigmas if level < sigma]
    return NoiseLevels((sigma, *below), reuse=reuse)


def true_schedule(sigma: float) -> NoiseLevels:
    """As above with many steps, the last of which, Euler's, begins at a thousandth of the usual."""
    *levels, smallest, zero = entered_at(sigma, TRUE_STEPS, reuse=False).sigmas
    return NoiseLevels((*levels, *(smallest * 0.9**power for power in range(66)), zero))


def solve(velocity: Velocity, start: torch.Tensor, schedule: NoiseLevels) -> torch.Tensor:
    *_, end = integrate(velocity, start, schedule)
    return end


def errors(field: tuple[int, int, float], seeds: int) -> list[list[float]]:
    """Of each of `SAMPLERS`, one a seed."""
    velocity = mixture(*field)
    sigma = NoiseLevels.heun(20, STRENGTH).start
    found: list[list[float]] = [[] for _ in SAMPLERS]
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        known, noise = torch.randn(2, field[1], generator=generator, dtype=torch.float64)
        start = noisy_start(known, noise, sigma)
        truth = solve(velocity, start, true_schedule(sigma))
        for index, (sampler, steps) in enumerate(SAMPLERS):
            end = solve(velocity, start, entered_at(sigma, steps, sampler == "heun_pec"))
            found[index].append(float((end - truth).norm() / truth.norm()))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=40)
    seeds = parser.parse_args().seeds
    sigma = NoiseLevels.heun(20, STRENGTH).start
    table = []
    for name, field in FIELDS.items():
        found = errors(field, seeds)
        default = statistics.median(found[0])
        for (sampler, steps), of_seeds in zip(SAMPLERS, found, strict=True):
            evaluations = entered_at(sigma, steps, sampler == "heun_pec").evaluations
            error = statistics.median(of_seeds)
            numbers = (f"{error:.4f}", f"{error / default:.2f}", f"{max(of_seeds):.3f}")
            table.append((name, sampler, str(steps), str(evaluations), *numbers))
    header = ("distribution", "sampler", "steps", "evaluations", "error", "x default", "worst")
    print(format_table(header, table))


if __name__ == "__main__":
    main()
