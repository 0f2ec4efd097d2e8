"""Predict what each node takes of the card, and choose the first rung of its ladder that fits.

The predictions are measurements kept as data (configs/vram.yaml). A node's rung answers to the
first row whose stage is its own and whose `when` its params satisfy; a rung that no row describes
is tried as it is, since the cap is enforced in the process anyway.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator.errors import ConfigError, UsageError
from orchestrator.pipeline.budget import GIB, NO_LIMIT, Budget, Prediction
from orchestrator.pipeline.graph import Graph, Node
from orchestrator.pipeline.layers import config_folder, params_of
from orchestrator.pipeline.profile import Attempt, Profile
from orchestrator.system.gpu import Card, GpuMonitor
from stages.weights.catalogue import shipped_yaml

VRAM_MARGIN = GIB // 2
"""Of what is free on a card: another program's window may grow by that much while a run goes on."""
HOST_MARGIN = 4 * GIB
"""Of what is available in host memory: for the processes themselves and the system."""


class VramRow(BaseModel):
    """One measurement; sizes in GiB.

    when            params that a rung must have for the row to speak of it; a list: one of these
    at_most         params that must not be larger
    peak_gib        the most of the card that the process took, its CUDA context included; 0 on
                    the CPU, where host_gib is all that it took
    least_gib       the least that it can work with; between this and peak_gib it adapts
    unused_gib      what it leaves free of a smaller budget on average, as it fills it in blocks
    host_gib        host memory beyond the page cache; least_host_gib: the least it can work with
    host_per_gib    GiB of host memory saved by each GiB of the card beyond least_gib
    load_seconds    from the start to the first job
    step_seconds    a step, `steps` times (the name of a param); job_seconds: all the rest of a job
    step_factor     param -> its value -> the factor on step_seconds
    measured        on what, and when
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    stage: str
    when: dict[str, Any] = Field(default_factory=dict)
    at_most: dict[str, float] = Field(default_factory=dict)
    peak_gib: float = Field(0.0, ge=0)
    least_gib: float | None = Field(None, gt=0)
    unused_gib: float = Field(0.0, ge=0)
    host_gib: float = Field(0.0, ge=0)
    least_host_gib: float | None = Field(None, ge=0)
    host_per_gib: float = Field(0.0, ge=0)
    load_seconds: float = Field(0.0, ge=0)
    job_seconds: float = Field(0.0, ge=0)
    step_seconds: float = Field(0.0, ge=0)
    steps: str = ""
    step_factor: dict[str, dict[str, float]] = Field(default_factory=dict)
    measured: str

    def speaks_of(self, params: Mapping[str, Any]) -> bool:
        """Whether a rung with these params is meant; a param that it lacks fits nothing."""
        return all(
            params.get(name) in (value if isinstance(value, list) else [value])
            for name, value in self.when.items()
        ) and all(params.get(name, math.inf) <= most for name, most in self.at_most.items())

    def seconds_a_step(self, params: Mapping[str, Any]) -> float:
        """`step_seconds`, by the factors of these params."""
        seconds = self.step_seconds
        for name, factors in self.step_factor.items():
            seconds *= factors.get(params[name], 1.0)
        return seconds

    @property
    def least(self) -> float:
        return self.peak_gib if self.least_gib is None else self.least_gib

    @property
    def least_host(self) -> float:
        return self.host_gib if self.least_host_gib is None else self.least_host_gib


@cache
def table() -> tuple[VramRow, ...]:
    """The rows of configs/vram.yaml. Raises `ConfigError` for a broken file."""
    path = config_folder() / "vram.yaml"
    try:
        return tuple(VramRow(**row) for row in shipped_yaml(path))
    except (OSError, TypeError, ValidationError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}", "reinstall kiss3d-orchestrate") from error


def row_for(node: Node, rung: int, rows: Sequence[VramRow]) -> VramRow | None:
    """The measurement that speaks of this rung of a node, if there is one."""
    params = _params(node, rung)
    of_stage = (row for row in rows if row.stage == node.config.stage)
    return next((row for row in of_stage if row.speaks_of(params)), None)


def _params(node: Node, rung: int) -> dict[str, Any]:
    """Of the stage on this rung, its device and dtype among them."""
    attempt = node.config.attempts[rung]
    params = params_of(node.name, node.config, attempt).model_dump(mode="json")
    return {**params, "device": attempt.device, "dtype": attempt.dtype}


def predict(node: Node, rung: int, budget: Budget, rows: Sequence[VramRow]) -> Prediction | None:
    """What a rung will take. None: nobody has measured it."""
    row = row_for(node, rung, rows)
    if row is None:
        return None
    vram = int(row.peak_gib * GIB)
    if 0 < budget.vram < vram:
        vram = budget.vram - int(row.unused_gib * GIB)
    saved = row.host_per_gib * max(0.0, vram / GIB - row.least)
    host = int(max(row.least_host, row.host_gib - saved) * GIB)
    if budget.host and row.peak_gib:
        host = min(host, budget.host)
    params = _params(node, rung)
    steps = float(params[row.steps]) if row.steps else 0.0
    seconds = row.load_seconds + row.job_seconds + row.seconds_a_step(params) * steps
    return Prediction(vram, host, seconds, row.measured)


def budget_for(
    target_vram: float, host_ram: float, cards: Sequence[Card], monitor: GpuMonitor
) -> Budget:
    """The budget of a command: what was asked for in GiB (0: nothing was), else what is free.

    With several cards it is that of the fullest, because any of them may be leased.
    """
    import psutil

    indices = {card.index for card in cards}
    free = min(
        (gpu.free for gpu in monitor.gpus() if gpu.index in indices and gpu.total), default=0
    )
    if target_vram:
        vram, why = int(target_vram * GIB), f"--target-vram {target_vram:g}"
    elif free:
        vram, why = max(GIB, free - VRAM_MARGIN), f"{free / GIB:.1f} GiB of the card are free now"
    else:
        vram, why = 0, ""
    if host_ram:
        return Budget(vram, int(host_ram * GIB), f"{why}, --host-ram {host_ram:g}".lstrip(", "))
    available = psutil.virtual_memory().available
    return Budget(
        vram,
        max(GIB, available - HOST_MARGIN),
        f"{why}, {available / GIB:.1f} GiB of host RAM are available".lstrip(", "),
    )


def least_card(profile: Profile) -> int:
    """The smallest card, in whole GiB, on which a profile does all that it is made for; 0: none.

    Rungs that cost something are not counted, nor a CPU's that is never fallen to. `VRAM_MARGIN` of
    the card is left to other programs, as a run leaves it.
    """
    needed = 0.0
    for node in Graph.from_profile(profile).nodes.values():
        measured = zip(node.config.attempts, _measured(node, table()), strict=True)
        whole = [
            0.0 if row is None else row.least
            for rung, row in measured
            if not rung.degraded and rung.fallback
        ]
        needed = max(needed, min(whole, default=0.0))
    return math.ceil(needed + VRAM_MARGIN / GIB) if needed else 0


def fit(graph: Graph, budget: Budget, rows: Sequence[VramRow]) -> Graph:
    """Drop the upper rungs that are known not to fit, and note what the others will take.

    Raises `UsageError` when no rung of some node fits: with the reasons, and the smallest budget
    within which every node does.
    """
    fitted, refused = [], []
    for node in graph.nodes.values():
        skipped, kept = _skip(node, budget, rows)
        if not kept:
            refused.append(f"{node.name} does not fit: {'; '.join(skipped)}")
            continue
        below = replace(node, config=node.config.model_copy(update={"attempts": kept}))
        fitted.append(replace(below, skipped=tuple(skipped), predictions=_all(below, budget, rows)))
    if refused:
        needed = _smallest_budget(graph, budget, rows)
        raise UsageError("\n".join([*refused, f"budget: {budget.why}"]), needed)
    return Graph(fitted)


def with_cpu_figures(graph: Graph, rows: Sequence[VramRow]) -> Graph:
    """The graph with what its rungs on the CPU will take; none is dropped."""
    return Graph(
        replace(
            node,
            predictions={
                rung: expected
                for rung, expected in _all(node, NO_LIMIT, rows).items()
                if node.config.attempts[rung].device == "cpu"
            },
        )
        for node in graph.nodes.values()
    )


def _skip(node: Node, budget: Budget, rows: Sequence[VramRow]) -> tuple[list[str], list[Attempt]]:
    """Why the upper rungs do not fit, and the rungs from the first one that does on."""
    skipped: list[str] = []
    ladder = node.config.attempts
    for rung, row in enumerate(_measured(node, rows)):
        if row is None or not (why := _does_not_fit(row, budget)):
            return skipped, list(ladder[rung:])
        skipped.append(f"rung {rung + 1} {why}")
    return skipped, []


def _measured(node: Node, rows: Sequence[VramRow]) -> list[VramRow | None]:
    """The row of each rung; None where nothing of the card is needed, or nobody measured it."""
    return [
        row_for(node, rung, rows) if attempt.device == "cuda" else None
        for rung, attempt in enumerate(node.config.attempts)
    ]


def _does_not_fit(row: VramRow, budget: Budget) -> str:
    if budget.vram and _bytes(row.least) > budget.vram:
        return f"needs {row.least:g} GiB of the card, {budget.vram / GIB:.1f} may be used"
    if budget.host and _bytes(row.least_host) > budget.host:
        return f"needs {row.least_host:g} GiB of host RAM, {budget.host / GIB:.1f} may be used"
    return ""


def _bytes(gib: float) -> int:
    """Rounded as an option's GiB are, so that a budget of exactly what is needed suffices."""
    return int(gib * GIB)


def _smallest_budget(graph: Graph, budget: Budget, rows: Sequence[VramRow]) -> str:
    """The options with which every node of the graph fits, and what its rungs cost there: the
    smallest target, then the least host memory, then as few options as possible.

    An option only raises what there is: what is unlimited, or suffices, is left out.
    """
    ladders = [
        [row for row in measured if row is not None]
        for node in graph.nodes.values()
        if None not in (measured := _measured(node, rows))
    ]
    all_rows = list(itertools.chain(*ladders))
    least_hosts = [max(1.0, row.least_host) for row in all_rows]
    targets = {None, *(row.least for row in all_rows if _bytes(row.least) > budget.vram > 0)}
    hosts = {None, *(least for least in least_hosts if _bytes(least) > budget.host > 0)}
    found = []
    for target, host in itertools.product(targets, hosts):
        tried = Budget(
            budget.vram if target is None else _bytes(target),
            budget.host if host is None else _bytes(host),
        )
        if all(any(not _does_not_fit(row, tried) for row in ladder) for ladder in ladders):
            asked = {"--target-vram": target, "--host-ram": host}
            options = [f"{name} {gib:g}" for name, gib in asked.items() if gib is not None]
            costs = _costs(graph, tried, rows)
            words = f"{' '.join(options)} would do" + (f", {costs}" if costs else "")
            found.append((tried.vram, tried.host, len(options), words))
    return min(found)[-1]


def _costs(graph: Graph, budget: Budget, rows: Sequence[VramRow]) -> str:
    """What the first rungs that fit a budget cost, node by node, or ""."""
    first = {node.name: _skip(node, budget, rows)[1][:1] for node in graph.nodes.values()}
    costs = [
        f"{n} {rung.degraded}" for n, rungs in first.items() for rung in rungs if rung.degraded
    ]
    return f"with {'; '.join(costs)}" if costs else ""


def _all(node: Node, budget: Budget, rows: Sequence[VramRow]) -> Mapping[int, Prediction]:
    found = {rung: predict(node, rung, budget, rows) for rung in range(len(node.config.attempts))}
    return {rung: prediction for rung, prediction in found.items() if prediction is not None}
