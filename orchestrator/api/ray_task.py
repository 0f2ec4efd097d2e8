"""What happens on a node of a Ray cluster: a shard, in a worker process like any other work.

Imported there by name, with what it imports. Nothing but paths and small rows travels, unless the
driver stages in.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator import __version__
from orchestrator.api.messages import error_fields
from orchestrator.api.ray_events import Teller
from orchestrator.api.request import Request
from orchestrator.api.work import Work
from orchestrator.errors import KissError, RunLockedError
from orchestrator.system.locks import LEASE_SECONDS
from orchestrator.system.private_folders import private_folder

if TYPE_CHECKING:
    from orchestrator.planning.options import Options
    from orchestrator.planning.request import Prepared

LOCKED_SECONDS = 3.0 * LEASE_SECONDS
"""How long a shard is asked for again that a lost task's processes, which end by themselves, still
hold; or that the dead of another node held, where the folder has no locks of the kernel."""
_LOOK_SECONDS = 0.3


def look(
    line: bytes, folder: str, token: str, answer: str, config: bytes | None = None
) -> dict[str, Any]:
    """What this node would carry out a request with: {"version", "error", "profile", "settings",
    "weights"}, the last two as digests, error: why it would refuse it.

    Reads the driver's token in the folder that all share, and writes it back to another file;
    folder: "" where nothing is shared; config: what --config holds then. Raises OSError where this
    node does not see the folder, or may not write there.
    """
    if folder:
        content = (Path(folder) / token).read_text()
        (Path(folder) / answer).write_text(content)
    found: dict[str, Any] = {"version": __version__, "error": None}
    try:
        return {**found, **_means(Request.from_data(json.loads(line)).options, config)}
    except KissError as error:
        return {**found, "error": error_fields(error)}
    except (TypeError, ValueError, KeyError):  # a request of another version, which is told first
        return {**found, "profile": "", "settings": "", "weights": {}}


def _means(options: Options, config: bytes | None) -> dict[str, Any]:
    from orchestrator.planning.request import prepare
    from orchestrator.weights.fingerprint import fingerprints

    if config is None:
        prepared = prepare(options)
    else:
        with private_folder() as folder:
            (folder / "config.yaml").write_bytes(config)
            prepared = prepare(replace(options, config_file=folder / "config.yaml"))
    return {
        "profile": prepared.settings.name,
        "settings": settings_digest(prepared),
        "weights": fingerprints(prepared.graph),
    }


def settings_digest(prepared: Prepared) -> str:
    """What tells a profile with all that was set on top from any other."""
    settings = prepared.settings.profile.model_dump_json().encode()
    return hashlib.blake2b(settings, digest_size=16).hexdigest()


def run_shard(line: bytes, shard: str = "", ear: Any = None) -> dict[str, Any]:
    """Carry out a request in a worker process of its own: {"host", "node", "rows", "error",
    "full"}.

    rows   of the shard's pictures, as in its summary; error: what it was refused with, or None
    node   Ray's name of this machine; full: pictures that failed because a disk was full
    ear    the actor that hears what happens meanwhile

    Ray's cancellation, and the end of the process that calls, stop the worker as Ctrl-C does.
    """
    return _carry_out(Request.from_data(json.loads(line)), Teller(ear, shard))


def run_staged_shard(
    line: bytes, shard: str, ear: Any, package: bytes, document: dict[str, Any]
) -> tuple[dict[str, Any], bytes]:
    """As `run_shard`, where no folder is shared: of what the driver packed; also gives what came
    of it, packed. document: shards.json."""
    from orchestrator.api import ray_stage_in
    from orchestrator.commands.shards import parse_shard

    request, teller = Request.from_data(json.loads(line)), Teller(ear, shard)
    assert request.folder is not None
    with ray_stage_in.on_node(package, document, request, parse_shard(shard)) as (there, packed):
        assert there.folder is not None
        teller.renamed = (str(there.folder.output), str(request.folder.output))
        return _carry_out(there, teller), packed()


def _carry_out(request: Request, teller: Teller) -> dict[str, Any]:
    until = time.monotonic() + LOCKED_SECONDS
    while True:
        work = Work(request, on_event=teller.notify)
        _attend(work, teller)
        error = work.heard.error
        if not isinstance(error, RunLockedError) or time.monotonic() > until:
            break
        time.sleep(_LOOK_SECONDS)
    if error is not None and not isinstance(error, KissError):
        raise error
    return {
        "host": socket.gethostname(),
        "node": _node_id(),
        "rows": work.heard.outcomes,
        "error": error_fields(error) if error else None,
        "full": sorted(teller.full),
    }


def _node_id() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())


def _attend(work: Work, teller: Teller) -> None:
    """Wait for the end of a worker. Awake at times: Ray's KeyboardInterrupt wakes nobody."""
    listener = threading.Thread(target=work.listen)
    listener.start()
    try:
        while not work.wait(_LOOK_SECONDS):
            teller.send()
    except BaseException:
        work.stop()
        raise
    finally:
        listener.join()
        teller.send(last=True)
