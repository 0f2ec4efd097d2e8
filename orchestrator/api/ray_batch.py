"""`batch --ray`: the shards of a batch as tasks of a Ray cluster, one a card.

    driver ── shards.json ──> one task a shard ──> worker process ──> batch --shard I/N ──> stages
       │ <── what happens, row by row ──┘
       └── merge, when all have ended

Ray decides where and when, and starts a task again whose node or worker was lost; what a task does
is what `--shard` does, in the folder that all nodes share. A task's process ends with it
(max_calls=1), so that no card is held by what came before. Ctrl-C cancels the tasks, and those of a
dead driver end by themselves. A shard that one node refuses, or has no room for, goes to another.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from orchestrator.api.ray_cluster import Slots, connected, nodes_of, require_fit, slots_of
from orchestrator.api.ray_giver import Giver, StagingGiver
from orchestrator.api.ray_progress import Whole
from orchestrator.api.request import Request
from orchestrator.commands import carry_out, merge, shards
from orchestrator.commands.batch_inputs import BatchInputs
from orchestrator.commands.carry_out import BatchRequest
from orchestrator.errors import UsageError
from orchestrator.planning.options import Options
from orchestrator.planning.request import Prepared
from orchestrator.running.run_events import Observer, RunEvent

SHARDS_A_SLOT = 8
"""Shards for each card, at most: a lost task costs an eighth of what its card does."""
PICTURES_A_SHARD = 4
"""At least: each shard loads every model."""
_THROUGH = ("done", "empty")


@dataclass(frozen=True)
class Begun:
    """What is decided when the tasks begin. jobs: pictures in all; todo: those of shards to do."""

    prepared: Prepared
    layout: shards.Layout
    jobs: int
    todo: int
    line: str


Watch = Callable[[Begun], AbstractContextManager[Observer]]
"""Opens what shows a batch while it is worked on."""


class _Hearer:
    """An observer of a function."""

    def __init__(self, on_event: Callable[[RunEvent], None] | None) -> None:
        self._on_event = on_event

    def notify(self, event: RunEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)


def heard_by(on_event: Callable[[RunEvent], None] | None) -> Watch:
    """A `Watch` that tells a function of all events; None: nobody."""
    return lambda begun: contextlib.nullcontext(_Hearer(on_event))


def batch(
    request: BatchRequest,
    options: Options,
    keep_is_open: bool,
    warm: bool,
    address: str,
    watch: Watch,
    stage_in: bool = False,
    tell: Callable[[BatchInputs], None] = lambda found: None,
) -> merge.Merged:
    """A whole batch on a Ray cluster, and its shards put together.

    address   of the cluster; "auto": the one that this machine is part of; "local": one of this
              machine's cards or cores alone, for as long as it takes
    stage_in  inputs and results travel through Ray, and no folder has to be shared
    tell      what the batch is of, where it begins

    Raises `UsageError`s before any task is begun, and `InterruptedRunError`.
    """
    if request.output is None:
        hint = "a new directory" if stage_in else "one that all nodes see"
        raise UsageError("--ray needs --output DIR", hint)
    if request.shard is not None:
        raise UsageError("--ray and --shard", "Ray gives out the shards: leave --shard out")
    with connected(address) as ray:
        slots: list[Slots] = []

        def count(prepared: Prepared, jobs: int) -> int:
            slots.append(slots_of(ray.cluster_resources(), prepared))
            if request.output is not None and shards.is_sharded(request.output):
                return shards.load(request.output).count
            return max(1, min(math.ceil(jobs / PICTURES_A_SHARD), SHARDS_A_SLOT * slots[0].count))

        layout, prepared = carry_out.cut(request, count, options, keep_is_open, None, tell)
        layout = shards.settle(layout)
        config = options.config_file.resolve() if options.config_file else None
        alike = replace(
            options, keep=prepared.options.keep, start=prepared.options.start, config_file=config
        )
        there = replace(request, source=request.source.resolve(), output=layout.path.resolve())
        every = Request("batch", alike, folder=there, warm=warm)
        shared = None if stage_in else layout.path.resolve()
        nodes = require_fit(ray, nodes_of(ray, slots[0]), every, prepared, shared)
        parts = merge.parts_of(layout)
        todo = [part for part in parts if part.state not in _THROUGH]
        good = [one.name for part in parts for one in part.outcomes if one.good]
        jobs = len(layout.whole.jobs)
        line = (
            f"profile {prepared.settings.name}: {jobs} jobs -> {layout.path}; "
            f"shards: {layout.count}, to do: {len(todo)}, at once: {slots[0].count}"
        )
        pictures = sum(len(part.outcomes) for part in todo)
        with watch(Begun(prepared, layout, jobs, pictures, line)) as observer:
            whole = Whole(
                layout.path, prepared.graph.nodes, layout.whole.jobs.keys(), good, observer
            )
            asked = {
                part.shard: replace(every, folder=replace(there, shard=str(part.shard)))
                for part in todo
            }
            giver = StagingGiver if stage_in else Giver
            giver(ray, slots[0], nodes, whole, layout).carry_out(asked)
    return merge.merge(layout.path)
