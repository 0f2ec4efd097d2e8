"""What a run would do, without starting anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.pipeline.budget import NO_LIMIT, Budget, Prediction
from orchestrator.pipeline.graph import Graph, Node
from orchestrator.pipeline.layers import node_stage, params_of
from orchestrator.pipeline.profile import Attempt
from orchestrator.record.cache import CacheIndex, Hit, changed, damage, key_of, key_parts, keys_of
from orchestrator.record.keep import is_settled
from orchestrator.record.manifest import NodeRecord
from orchestrator.record.run_directory import RunDirectory


@dataclass(frozen=True)
class PlanRow:
    """One node: its ladder, whether its output is there already, and why (not).

    device       "cpu" or "cuda": where the first rung of the ladder computes
    degraded     what a result of each rung of the ladder costs, "" for nothing
    skipped      upper rungs that do not fit into the budget, and why
    expected     what the first rung left is expected to take; None: never measured
    margin       bytes of the VRAM budget that it leaves, -1 without a budget or an expectation
    off          its param `enabled` is false: it passes on what it reads, and costs nothing
    """

    node: str
    stage: str
    device: str
    ladder: tuple[str, ...]
    degraded: tuple[str, ...]
    cached: bool
    reason: str
    skipped: tuple[str, ...] = ()
    expected: Prediction | None = None
    margin: int = -1
    off: bool = False


def predict(
    graph: Graph,
    run: RunDirectory,
    cache: CacheIndex | None,
    force: frozenset[str] = frozenset(),
    budget: Budget = NO_LIMIT,
) -> Iterator[PlanRow]:
    """Rows in the graph's order. `run` may be one that exists only in memory.

    Follows the loop's own rule: a node is taken over when all its inputs are, and its key is
    known here or in the index, and it is not in `force`.
    """
    known = RunDirectory(run.path, run.manifest.model_copy(deep=True))
    settled: dict[str, bool] = {}
    done = is_settled(known, graph, force)
    for name, node in graph.nodes.items():
        if done:
            settled[name], reason = True, "done in this run, which kept its result alone"
        elif name in force:
            settled[name], reason = False, "--from asks for it"
        else:
            settled[name], reason = _look_up(node, known, cache, settled)
        yield plan_row(node, settled[name], reason, budget)


def plan_row(node: Node, cached: bool, reason: str, budget: Budget) -> PlanRow:
    """The row of a node of which this is known."""
    attempts = node.config.attempts
    expected = node.predictions.get(0)
    margin = budget.vram - expected.vram if expected and budget.vram else -1
    return PlanRow(
        node=node.name,
        stage=node.config.stage,
        device=attempts[0].device,
        ladder=tuple(map(str, attempts)),
        degraded=tuple(_cost(node, attempt) for attempt in attempts),
        cached=cached,
        reason=reason,
        skipped=node.skipped,
        expected=expected,
        margin=margin,
        off=getattr(params_of(node.name, node.config, attempts[0]), "enabled", True) is False,
    )


def _cost(node: Node, attempt: Attempt) -> str:
    """What a result of a rung costs, as the profile says of it and the stage of its params."""
    params = params_of(node.name, node.config, attempt)
    of_params = node_stage(node.name, node.config).costs(params)
    return "; ".join(filter(None, [attempt.degraded, of_params]))


def _look_up(
    node: Node, known: RunDirectory, cache: CacheIndex | None, settled: dict[str, bool]
) -> tuple[bool, str]:
    computed = [name for name in sorted(node.upstream) if not settled.get(name, True)]
    if computed:
        return False, f"reads what {', '.join(computed)} will make"
    parts = key_parts(node, known.manifest.seed, known)
    key = key_of(parts)
    record = known.manifest.nodes.get(node.name, NodeRecord())
    broken = ""
    if key in keys_of(record) and record.artifacts:
        broken = damage(node, known)
        if not broken:
            return True, "done in this run"
    hit: Hit | None = cache.find(key) if cache is not None else None
    if hit is not None:
        known.manifest.nodes[node.name] = hit.run.manifest.nodes[hit.node]
        return True, f"same inputs and params as in {hit.run.path}"
    if broken:
        return False, broken
    if record.key_parts:
        return False, f"changed: {', '.join(changed(record.key_parts, parts))}"
    return False, "no finished run has these inputs and params"
