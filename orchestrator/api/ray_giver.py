"""Gives the shards of a batch out to a Ray cluster, and again where a node could not do them."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.api import ray_stage_in, ray_task
from orchestrator.api.messages import error_from
from orchestrator.api.ray_cluster import ClusterNode, Slots, nodes_of, on_node
from orchestrator.api.ray_events import Hearing
from orchestrator.api.ray_progress import Whole
from orchestrator.api.request import Request
from orchestrator.commands import shards
from orchestrator.errors import InterruptedRunError, OutputError, UsageError
from orchestrator.system.stop_signals import STOP

RETRIES = 3
"""Of a shard: by Ray where its node or worker is lost, and on other nodes where one refuses it."""
_LOOK_SECONDS = 0.5
_END_SECONDS = 60.0
"""For cancelled tasks to end their stages; then Ray kills their processes."""


@dataclass
class _Given:
    """A shard that some node has. tried: ids of nodes that could not do it; package: a reference
    to what came of it, where that has to travel."""

    shard: shards.Shard
    request: Request
    tried: list[str] = field(default_factory=list)
    package: Any = None


class Giver:
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


class StagingGiver(Giver):
    """Sends inputs along with a shard, and has its directory sent back."""

    task = staticmethod(ray_task.run_staged_shard)

    def carry_out(self, asked: Mapping[shards.Shard, Request]) -> None:
        """As `Giver` does."""
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
