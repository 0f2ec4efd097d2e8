"""`batch --ray`: the shards of a batch as tasks of a Ray cluster, one a card.

    driver ── shards.json ──> one task a shard ──> worker process ──> batch --shard I/N ──> stages
       └── merge, when all have ended

Ray decides where and when, and starts a task again whose node or worker was lost; what a task does
is what `--shard` does, in the folder that all nodes share. A task's process ends with it
(max_calls=1), so that no card is held by what came before. Ctrl-C cancels the tasks, and those of a
dead driver end by themselves.
"""

from __future__ import annotations

import contextlib
import math
import os
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from orchestrator import __version__
from orchestrator.api import ray_task
from orchestrator.api.messages import error_from
from orchestrator.api.request import Request
from orchestrator.commands import carry_out, merge, shards
from orchestrator.commands.carry_out import BatchRequest
from orchestrator.errors import InterruptedRunError, UsageError
from orchestrator.planning.options import Options
from orchestrator.planning.request import Prepared
from orchestrator.system.atomic_files import write_atomic
from orchestrator.system.locks import as_output_error
from orchestrator.system.stop_signals import STOP

SHARDS_A_SLOT = 8
"""Shards for each card, at most: a lost task costs an eighth of what its card does."""
PICTURES_A_SHARD = 4
"""At least: each shard loads every model."""
CPUS_A_SLOT = 2
"""Of profiles that use no card: what `sketch` was measured with."""
RETRIES = 3
_LISTENER_SECONDS = 10.0
_ANSWER_SECONDS = 120.0
_END_SECONDS = 60.0
"""For cancelled tasks to end their stages; then Ray kills their processes."""


@dataclass(frozen=True)
class Slots:
    """How many shards the cluster works on at once, and what each of them asks for."""

    count: int
    gpus: int
    cpus: int


def batch(
    request: BatchRequest,
    options: Options,
    keep_is_open: bool,
    warm: bool,
    address: str,
    tell: Callable[[str], None] = lambda line: None,
) -> merge.Merged:
    """A whole batch on a Ray cluster, and its shards put together.

    address  of the cluster; "auto": the one that this machine is part of; "local": one of this
             machine's cards or cores alone, for as long as it takes
    tell     hears a line for each shard that has ended

    Raises `UsageError`s before any task is begun, and `InterruptedRunError`.
    """
    if request.output is None:
        raise UsageError("--ray needs --output DIR", "one that all nodes see")
    if request.shard is not None:
        raise UsageError("--ray and --shard", "Ray gives out the shards: leave --shard out")
    with _connected(address) as ray:
        slots: list[Slots] = []

        def count(prepared: Prepared, jobs: int) -> int:
            slots.append(_slots(ray.cluster_resources(), prepared))
            if request.output is not None and shards.is_sharded(request.output):
                return shards.load(request.output).count
            return max(1, min(math.ceil(jobs / PICTURES_A_SHARD), SHARDS_A_SLOT * slots[0].count))

        layout, prepared = carry_out.cut(request, count, options, keep_is_open, None)
        layout = shards.settle(layout)
        _require_shared(ray, layout)
        todo = [part.shard for part in merge.parts_of(layout) if part.state not in _THROUGH]
        tell(
            f"profile {prepared.settings.name}: {len(layout.whole.jobs)} jobs -> {layout.path}; "
            f"shards: {layout.count}, to do: {len(todo)}, at once: {slots[0].count}"
        )
        config = options.config_file.resolve() if options.config_file else None
        alike = replace(options, keep=prepared.options.keep, config_file=config)
        there = replace(request, source=request.source.resolve(), output=layout.path.resolve())
        asked = {
            shard: Request("batch", alike, folder=replace(there, shard=str(shard)), warm=warm)
            for shard in todo
        }
        _carry_out(ray, asked, slots[0], tell)
    return merge.merge(layout.path)


_THROUGH = ("done", "empty")


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster. Raises `UsageError`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent unasked
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            f"--ray: Ray is not installed ({error})", 'pip install "kiss3d-orchestrate[ray]"'
        ) from error
    if ray.is_initialized():  # by a program that has its own cluster
        yield ray
        return
    _require_listener(address)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    more = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, log_to_driver=False, logging_level="ERROR", **more)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        told = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"--ray {address}: no cluster answers: {told}",
            "`ray start --head` begins one here; --ray local uses this machine alone",
        ) from error
    for number, handler in before.items():  # Ray has its own, which ends at once
        signal.signal(number, handler)
    try:
        yield ray
    finally:
        ray.shutdown()


def _require_listener(address: str) -> None:
    """Refuse an address where nobody listens, for which Ray would wait minutes."""
    host, _, port = address.rpartition(":")
    if address in ("auto", "local"):
        return
    if "/" in address or not host or not port.isdigit():
        raise UsageError(
            f"--ray {address}: no address of a cluster",
            "HOST:6379, as `ray start` says it; auto, or local",
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _LISTENER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"--ray {address}: nobody answers there: {error}",
            "`ray start --head` begins a cluster; `ray status` shows one",
        ) from error


def _slots(resources: dict[str, float], prepared: Prepared) -> Slots:
    """What the cluster has for this profile. Raises `UsageError` where that is nothing."""
    first = (node.config.attempts[0].device for node in prepared.whole.nodes.values())
    if prepared.options.device != "cpu" and "cuda" in first:
        cards = int(resources.get("GPU", 0))
        if not cards:
            raise UsageError(
                f"profile {prepared.settings.name} needs a card, and Ray knows of none in the "
                "cluster",
                "`ray status` shows what it knows; `ray start --num-gpus N` tells it; or "
                "--profile sketch",
            )
        return Slots(cards, 1, 1)
    cores = int(resources.get("CPU", 0))
    cpus = min(CPUS_A_SLOT, max(1, cores))
    return Slots(max(1, cores // cpus), 0, cpus)


def _require_shared(ray: Any, layout: shards.Layout) -> None:
    """Have each node read a token in the directory and write one, by the same program.

    Raises `UsageError` that names the node.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_calls=1, max_retries=1)(ray_task.look)
    folder, word = layout.path.resolve(), secrets.token_hex(8)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    token, answers = f".{word}.token", [f".{word}.{number}" for number in range(len(nodes))]
    try:
        with as_output_error(folder):
            write_atomic(folder / token, word.encode())
        asked = [
            look.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote(str(folder), token, answer)
            for node, answer in zip(nodes, answers, strict=True)
        ]
        for node, ref, answer in zip(nodes, asked, answers, strict=True):
            name = f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            _require_answer(ray, ref, name)
            if not _holds(folder / answer, word):
                raise UsageError(
                    f"{name} has another {folder} than {socket.gethostname()}",
                    "--output has to be in a folder that all nodes share, at the same path",
                )
    finally:
        for file in (token, *answers):
            with contextlib.suppress(OSError):
                (folder / file).unlink(missing_ok=True)


def _holds(file: Any, word: str) -> bool:
    try:
        return bool(file.read_text() == word)
    except OSError:
        return False


def _require_answer(ray: Any, ref: Any, name: str) -> None:
    try:
        found = ray.get(ref, timeout=_ANSWER_SECONDS)
    except ray.exceptions.GetTimeoutError as error:
        raise UsageError(
            f"{name} does not answer within {_ANSWER_SECONDS:g} s", "`ray status` shows the cluster"
        ) from error
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, OSError):
            raise UsageError(
                f"{name} cannot use the directory of the batch: {cause}",
                "--output has to be in a folder that all nodes share, at the same path",
            ) from error
        told = str(error).strip().rpartition("\n")[2]
        raise UsageError(
            f"{name} cannot run this program: {told}", "install the same version on all nodes"
        ) from error
    if found["version"] != __version__:
        raise UsageError(
            f"{name} has version {found['version']}, this machine {__version__}",
            "install the same version on all nodes",
        )


def _carry_out(
    ray: Any,
    asked: dict[shards.Shard, Request],
    slots: Slots,
    tell: Callable[[str], None],
) -> None:
    """Have all shards worked on, and return when none is. Raises `InterruptedRunError`."""
    work = ray.remote(num_gpus=slots.gpus, num_cpus=slots.cpus, max_calls=1, max_retries=RETRIES)(
        ray_task.run_shard
    )
    going = {work.remote(request.line()): shard for shard, request in asked.items()}
    try:
        while going:
            ended, _ = ray.wait(list(going), num_returns=1, timeout=1.0)
            for ref in ended:
                tell(f"shard {going.pop(ref)}{_end_of(ray, ref)}")
    except KeyboardInterrupt:
        _cancel(ray, list(going))
        raise InterruptedRunError(
            "interrupted", "the same command goes on with it", STOP.exit_code
        ) from None


def _end_of(ray: Any, ref: Any) -> str:
    """How a shard ended, for people; what became of its pictures `merge` says."""
    try:
        found = ray.get(ref)
    except ray.exceptions.RayError as error:
        return f" was lost: {str(error).strip().partition(chr(10))[0]}"
    if found["error"] is not None:
        return f" on {found['host']}: {error_from(found['error'])}"
    good = sum(row["state"] == "done" for row in found["rows"])
    return f" on {found['host']}: {good} of {len(found['rows'])} good"


def _cancel(ray: Any, refs: list[Any]) -> None:
    """End tasks as Ctrl-C does, and those that do not end in time by force."""
    for force in (False, True):
        for ref in refs:
            with contextlib.suppress(ray.exceptions.RayError, ValueError):
                ray.cancel(ref, force=force)
        until = time.monotonic() + _END_SECONDS
        while refs and time.monotonic() < until:
            _, refs = ray.wait(refs, num_returns=len(refs), timeout=1.0)
        if not refs:
            return
