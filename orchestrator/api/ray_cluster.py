"""A cluster of Ray: the way in, what it has for a profile, and whether its nodes fit together."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator import __version__
from orchestrator.api import ray_task
from orchestrator.api.messages import error_from
from orchestrator.api.request import Request
from orchestrator.errors import UsageError
from orchestrator.planning.request import Prepared
from orchestrator.system.atomic_files import write_atomic
from orchestrator.system.locks import as_output_error

CPUS_A_SLOT = 2
"""Of profiles that use no card: what `sketch` was measured with."""
_LISTENER_SECONDS = 10.0
_ANSWER_SECONDS = 120.0
_SAME_PLACE = "--output has to be in a folder that all nodes share, at the same path; or --stage-in"


@contextlib.contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster. Raises `UsageError`.

    What a cluster of this machine's own ("local") writes to Ray's temporary folder goes with it.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent unasked
    if "ray" not in sys.modules:
        _require_listener(address)
        _take_token(address)  # before Ray is imported, which looks for it then
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
        begun = ray.init(address, log_to_driver=False, logging_level="ERROR", **more)
    except (ConnectionError, OSError, RuntimeError, ValueError) as error:
        told = str(error).strip().partition("\n")[0]
        raise UsageError(
            f"--ray {address}: no cluster answers: {told}",
            "`ray start --head` begins one here; --ray local uses this machine alone. If it has a "
            "token, ~/.ray/auth_token or RAY_AUTH_TOKEN has to have it on each machine",
        ) from error
    for number, handler in before.items():  # Ray has its own, which ends at once
        signal.signal(number, handler)
    try:
        yield ray
    finally:
        ray.shutdown()
        if address == "local":
            _remove_session(Path(begun.address_info["session_dir"]))


def _remove_session(folder: Path) -> None:
    """Remove logs and sockets of a cluster that has ended, and Ray's link to the latest one where
    that led to them."""
    shutil.rmtree(folder, ignore_errors=True)
    latest = folder.parent / "session_latest"
    with contextlib.suppress(OSError):
        if latest.is_symlink() and not latest.exists():
            latest.unlink()


def _take_token(address: str) -> None:
    """Show the cluster its token, where it asks for one: newer `ray start`s make clusters that do,
    while the library shows none by itself, and cannot work with an open cluster if it does. A
    cluster of one's own has a new one, so that nobody else on the network can give it work."""
    if "RAY_AUTH_MODE" in os.environ:
        return
    if address == "local":
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        return
    known = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if (known or Path("~/.ray/auth_token").expanduser().is_file()) and _is_closed(address):
        os.environ["RAY_AUTH_MODE"] = "token"


def _is_closed(address: str) -> bool:
    """Whether a cluster refuses who shows no token. Asked by another process: Ray settles in each
    once and for all whether it shows one."""
    where = [] if address == "auto" else ["--address", address]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [sys.executable, "-m", "ray.scripts.scripts", "health-check", *where],
            env={**os.environ, "RAY_AUTH_MODE": "disabled"},
            check=False,
            capture_output=True,
            timeout=_ANSWER_SECONDS,
        )
        return b"AuthenticationError" in done.stderr + done.stdout
    return False


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


@dataclass(frozen=True)
class Slots:
    """How many shards the cluster works on at once, and what each of them asks for."""

    count: int
    gpus: int
    cpus: int

    def fits(self, resources: Mapping[str, float]) -> bool:
        """Whether a node with these can work on a shard at all."""
        return resources.get("GPU", 0) >= self.gpus and resources.get("CPU", 0) >= self.cpus


def slots_of(resources: Mapping[str, float], prepared: Prepared) -> Slots:
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


@dataclass(frozen=True)
class ClusterNode:
    """A machine of the cluster that can work on shards. id: Ray's."""

    id: str
    name: str


def nodes_of(ray: Any, slots: Slots) -> list[ClusterNode]:
    """The machines that are there now and can work on a shard."""
    return [
        ClusterNode(node["NodeID"], f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})")
        for node in ray.nodes()
        if node["Alive"] and slots.fits(node["Resources"])
    ]


def on_node(node_id: str, soft: bool = False) -> Any:
    """Where Ray is to do a task: there and nowhere else; or there if that can be."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id, soft=soft)


def require_fit(
    ray: Any,
    nodes: Sequence[ClusterNode],
    request: Request,
    prepared: Prepared,
    folder: Path | None,
) -> list[ClusterNode]:
    """Have each node tell its version, and the settings and weights that it would work with; and
    read a token in the folder that all share, and write one.

    prepared: the request as this machine understands it. folder: None where nothing is shared.
    Returns those that are still there: Ray lists a node for some seconds after it has left. Raises
    `UsageError` that names the node, or that says that none is there.
    """
    look = ray.remote(num_cpus=0, max_calls=1, max_retries=1)(ray_task.look)
    word = secrets.token_hex(8)
    file = request.options.config_file if folder is None else None
    config = file.read_bytes() if file is not None else None
    token, answers = f".{word}.token", [f".{word}.{number}" for number in range(len(nodes))]
    try:
        if folder is not None:
            with as_output_error(folder):
                write_atomic(folder / token, word.encode())
        asked = [
            look.options(scheduling_strategy=on_node(node.id)).remote(
                request.line(), str(folder or ""), token, answer, config
            )
            for node, answer in zip(nodes, answers, strict=True)
        ]
        looks: list[tuple[ClusterNode, dict[str, Any]]] = []
        for node, ref, answer in zip(nodes, asked, answers, strict=True):
            told = _answer_of(ray, ref, node.name)
            if told is None:
                continue
            looks.append((node, told))
            if folder is not None and not _holds(folder / answer, word):
                raise UsageError(
                    f"node {node.name} has another {folder} than {socket.gethostname()}",
                    _SAME_PLACE,
                )
        if not looks:
            raise UsageError(
                "no node of the cluster that could work is there any more",
                "`ray status` shows the cluster",
            )
        first, known = looks[0]
        for node, found in looks:
            _require_settings(prepared, node.name, found)
            _require_weights(first.name, known["weights"], node.name, found["weights"])
        return [node for node, _ in looks]
    finally:
        if folder is not None:
            for name in (token, *answers):
                with contextlib.suppress(OSError):
                    (folder / name).unlink(missing_ok=True)


def _holds(file: Path, word: str) -> bool:
    try:
        return bool(file.read_text() == word)
    except OSError:
        return False


def _answer_of(ray: Any, ref: Any, name: str) -> dict[str, Any] | None:
    """What a node told of itself; None: it has left the cluster. Raises `UsageError` where it has
    another version, or cannot."""
    gone = (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError)
    try:
        found: dict[str, Any] = ray.get(ref, timeout=_ANSWER_SECONDS)
    except ray.exceptions.GetTimeoutError as error:
        raise UsageError(
            f"node {name} does not answer within {_ANSWER_SECONDS:g} s",
            "`ray status` shows the cluster",
        ) from error
    except gone:
        return None
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)
        if isinstance(cause, OSError):
            raise UsageError(
                f"node {name} cannot use the directory of the batch: {cause}", _SAME_PLACE
            ) from error
        told = str(error).strip().rpartition("\n")[2]
        raise UsageError(
            f"node {name} cannot run this program: {told}", "install the same version on all nodes"
        ) from error
    if found["version"] != __version__:
        raise UsageError(
            f"node {name} has version {found['version']}, this machine {__version__}",
            "install the same version on all nodes",
        )
    if found["error"] is not None:
        refused = error_from(found["error"])
        raise UsageError(f"node {name}: {refused.message}", refused.hint)
    return found


def _require_settings(prepared: Prepared, name: str, found: Mapping[str, Any]) -> None:
    """Refuse a node that would make other meshes of the same picture. Raises `UsageError`."""
    profile = prepared.settings.name
    if found["profile"] != profile:
        raise UsageError(
            f"node {name} would take profile {found['profile']}, this machine {profile}",
            "name a --profile: auto chooses by each machine's card and weights",
        )
    if found["settings"] != ray_task.settings_digest(prepared):
        raise UsageError(
            f"node {name} has other settings of profile {profile} than this machine",
            "its file, or that of --config, is not the same on both",
        )


def _require_weights(
    first: str, expected: Mapping[str, str], name: str, found: Mapping[str, str]
) -> None:
    """Refuse two nodes that would load different weights. Raises `UsageError`."""
    for weights in sorted({*found, *expected}):
        here, there = found.get(weights, ""), expected.get(weights, "")
        if here == there:
            continue
        if here and there:
            raise UsageError(
                f"nodes {name} and {first} have different weights {weights}",
                "`kiss3d-orchestrate models path` on both says which; have the same on all nodes",
            )
        lacks, has = (first, name) if here else (name, first)
        raise UsageError(
            f"node {lacks} has no weights {weights}, which node {has} has",
            f"`kiss3d-orchestrate models pull {weights}` there, or a KISS3D_MODELS that all nodes "
            "see",
        )
