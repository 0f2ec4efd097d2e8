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
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.api import ray_stage_in, ray_task
from orchestrator.api.messages import error_from
from orchestrator.api.ray_cluster import (
    ClusterNode,
    Slots,
    connected,
    nodes_of,
    on_node,
    require_fit,
    slots_of,
)
from orchestrator.api.ray_events import Hearing
from orchestrator.api.ray_progress import Whole
from orchestrator.api.request import Request
from orchestrator.commands import carry_out, merge, shards
from orchestrator.commands.carry_out import BatchRequest
from orchestrator.errors import InterruptedRunError, OutputError, UsageError
from orchestrator.planning.options import Options
from orchestrator.planning.request import Prepared
from orchestrator.running.run_events import Observer, RunEvent
from orchestrator.system.stop_signals import STOP

SHARDS_A_SLOT = 8
"""Shards for each card, at most: a lost task costs an eighth of what its card does."""
PICTURES_A_SHARD = 4
"""At least: each shard loads every model."""
RETRIES = 3
"""Of a shard: by Ray where its node or worker is lost, and on other nodes where one refuses it."""
_LOOK_SECONDS = 0.5
_END_SECONDS = 60.0
"""For cancelled tasks to end their stages; then Ray kills their processes."""
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
) -> merge.Merged:
    """A whole batch on a Ray cluster, and its shards put together.

    address   of the cluster; "auto": the one that this machine is part of; "local": one of this
              machine's cards or cores alone, for as long as it takes
    stage_in  inputs and results travel through Ray, and no folder has to be shared

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

        layout, prepared = carry_out.cut(request, count, options, keep_is_open, None)
        layout = shards.settle(layout)
        config = options.config_file.resolve() if options.config_file else None
        alike = replace(
            options, keep=prepared.options.keep, start=prepared.options.start, config_file=config
        )
        there = replace(request, source=request.source.resolve(), output=layout.path.resolve())
        every = Request("batch", alike, folder=there, warm=warm)
        nodes = nodes_of(ray, slots[0])
        require_fit(ray, nodes, every, prepared, None if stage_in else layout.path.resolve())
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
            giver = _StagingGiver if stage_in else _Giver
            giver(ray, slots[0], nodes, whole, layout).carry_out(asked)
    return merge.merge(layout.path)


@dataclass
class _Given:
    """A shard that some node has. tried: ids of nodes that could not do it; package: a reference
    to what came of it, where that has to travel."""

    shard: shards.Shard
    request: Request
    tried: list[str] = field(default_factory=list)
    package: Any = None


class _Giver:
    """Gives shards out, and again where a node could not do them."""

    task: Callable[..., Any] = staticmethod(ray_task.run_shard)

    def __init__(
        self,
        ray: Any,
        slots: Slots,
        nodes: list[ClusterNode],
        whole: Whole,
        layout: shards.Layout,
    ) -> None:
        self._ray = ray
        self._slots = slots
        self._layout = layout
        self._names = {node.id: node.name for node in nodes}
        self._whole = whole
        self._hearing = Hearing(ray)
        self._going: dict[Any, _Given] = {}
        self._work = ray.remote(
            num_gpus=slots.gpus, num_cpus=slots.cpus, max_calls=1, max_retries=RETRIES
        )(self.task)
        self._waiting: list[_Given] = []

    def carry_out(self, asked: Mapping[shards.Shard, Request]) -> None:
        """Have all shards worked on, and return when none is. Raises `InterruptedRunError`."""
        try:
            self._waiting = [_Given(shard, request) for shard, request in asked.items()]
            self._give_more()
            while self._going:
                ended, _ = self._ray.wait(
                    list(self._going), num_returns=1, timeout=_LOOK_SECONDS, fetch_local=False
                )
                self._whole.hear(self._hearing.take())
                for ref in ended:
                    self._end(self._going.pop(ref), ref)
                self._give_more()
        except KeyboardInterrupt:
            self._whole.stopping()
            self._cancel(list(self._going))
            raise InterruptedRunError(
                "interrupted", "the same command goes on with it", STOP.exit_code
            ) from None

    @property
    def _at_once(self) -> float:
        """How many shards Ray is told of."""
        return math.inf

    def _give_more(self) -> None:
        while self._waiting and len(self._going) < self._at_once:
            self._give(self._waiting.pop(0))

    def _give(self, given: _Given, node: str = "") -> None:
        where = on_node(node, soft=True) if node else None
        self._going[self._submit(given, {"scheduling_strategy": where})] = given

    def _submit(self, given: _Given, options: dict[str, Any]) -> Any:
        """Ray's reference to what the task will tell."""
        work = self._work.options(**options)
        return work.remote(given.request.line(), str(given.shard), self._hearing.ear)

    def _take_in(self, given: _Given) -> None:
        """A task is over: have what came of it where the user looks."""

    def _end(self, given: _Given, ref: Any) -> None:
        """A task is over: its shard is, or another node is to try."""
        shard = str(given.shard)
        try:
            found = self._ray.get(ref)
        except self._ray.exceptions.RayError as error:
            told = str(error).strip().partition("\n")[0]
            self._whole.say(f"shard {shard} was lost: {told}", shard)
            return
        host = found["host"]
        refusal = error_from(found["error"]) if found["error"] is not None else None
        try:
            self._take_in(given)
        except (OutputError, self._ray.exceptions.RayError) as failure:
            told = str(failure).strip().partition("\n")[0]
            refusal = refusal or UsageError(f"its results did not arrive: {told}")
        why = str(refusal) if refusal is not None else ""
        if refusal is None and found["full"]:
            why = f"a disk is full there, which cost {len(found['full'])} pictures"
        if not why:
            self._whole.shard_ended(shard, host, found["rows"])
            return
        given.tried.append(found["node"])
        others = self._others()
        other = next((node for node in others if node not in given.tried), "")
        # A worker that died may live the next time, also on the same node.
        if not other and refusal is not None and not isinstance(refusal, UsageError):
            other = found["node"] if found["node"] in others else next(iter(others), "")
        if other and len(given.tried) <= RETRIES:
            name = self._names[other]
            self._whole.say(f"shard {shard} on {host}: {why}; again on {name}", shard, host)
            self._give(given, other)
            return
        if refusal is None:
            self._whole.shard_ended(shard, host, found["rows"])
        self._whole.say(f"shard {shard} on {host}: {why}", shard, host)

    def _others(self) -> list[str]:
        """Ids of the nodes that can work now."""
        alive = nodes_of(self._ray, self._slots)
        self._names |= {node.id: node.name for node in alive}
        return [node.id for node in alive]

    def _cancel(self, refs: list[Any]) -> None:
        """End tasks as Ctrl-C does, and those that do not end in time by force."""
        for force in (False, True):
            for ref in refs:
                with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
                    self._ray.cancel(ref, force=force)
            until = time.monotonic() + _END_SECONDS
            while refs and time.monotonic() < until:
                _, refs = self._ray.wait(
                    refs, num_returns=len(refs), timeout=1.0, fetch_local=False
                )
                self._whole.hear(self._hearing.take())
            if not refs:
                return


class _StagingGiver(_Giver):
    """Sends inputs along with a shard, and has its directory sent back."""

    task = staticmethod(ray_task.run_staged_shard)

    def carry_out(self, asked: Mapping[shards.Shard, Request]) -> None:
        """As `_Giver` does."""
        ray_stage_in.sweep(self._layout)
        super().carry_out(asked)

    @property
    def _at_once(self) -> float:
        """So many that none waits for work, and no more inputs than that lie in Ray's store."""
        return 2 * self._slots.count

    def _submit(self, given: _Given, options: dict[str, Any]) -> Any:
        package = ray_stage_in.pack(self._layout, given.shard, given.request)
        document = shards.document(self._layout)
        found, given.package = self._work.options(num_returns=2, **options).remote(
            given.request.line(),
            str(given.shard),
            self._hearing.ear,
            self._ray.put(package),
            document,
        )
        return found

    def _take_in(self, given: _Given) -> None:
        ray_stage_in.unpack(self._ray.get(given.package), self._layout, given.shard)
        given.package = None
