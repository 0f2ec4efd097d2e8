"""Cache keys, and finding finished nodes of earlier runs by them.

A node's key is a digest of its stage, version, params, seed (unless the stage does without one),
weights and the contents of its inputs, so equal keys mean equal outputs. An index beside the runs
(<outputs>/.cache/<key>.json) names the run that holds them; the files themselves stay in their run
directory.

A machine without a node's weights cannot compute the node, and does not know their digests either.
It takes an earlier result whatever weights made it: each result is found under a second key, in
which the weights are left out.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import RunRecordError
from orchestrator.pipeline.graph import INPUT, Graph, Node
from orchestrator.record import stage_pictures
from orchestrator.record.manifest import NodeRecord
from orchestrator.record.run_directory import RunDirectory
from orchestrator.system.atomic_files import digest_bytes, json_bytes
from orchestrator.system.inside import Inside
from orchestrator.system.reading import JSON_BYTES, json_data, limited
from orchestrator.system.text import printable

FOLDER = ".cache"
ENTRIES = "blake2b-*.json"


def key_parts(node: Node, seed: int, run: RunDirectory) -> dict[str, Any]:
    """All that a node's output depends on; its inputs must be recorded in `run`."""
    inputs = {}
    for name, source in node.inputs.items():
        if source.node == INPUT:
            if given := run.given(source.artifact):
                inputs[name] = [given.digest]
        else:
            # An optional output may be missing; its reader does without it.
            records = run.manifest.nodes[source.node].artifacts.get(source.artifact, [])
            inputs[name] = [record.digest for record in records]
    rung = node.config.attempts[0]
    return {
        "stage": node.config.stage,
        "version": node.version,
        "params": dict(node.params),
        "first_rung": {"dtype": rung.dtype, "params": rung.params},
        **({"seed": seed} if node.uses_seed else {}),
        "weights": _weights_part(node),
        "inputs": inputs,
    }


def _weights_part(node: Node) -> dict[str, str] | None:
    """Name -> digest, or None where one that is needed is missing."""
    first = node.weights[0] if node.weights else ()
    if any(not record.place and not record.optional for record in first):
        return None
    return {record.name: record.digest for record in first}


def keys_of(record: NodeRecord) -> set[str]:
    """The keys that a finished node is found under: its own, and the one without its weights."""
    if not record.key_parts.get("weights"):
        return {record.key}
    return {record.key, key_of({**record.key_parts, "weights": None})}


def answers_to_its_key(record: NodeRecord) -> bool:
    """Whether a finished node is what its key promises, which is the result of the first rung.

    A lower rung's result counts only if that rung is declared to make the same.
    """
    first = bool(record.attempts) and record.attempts[-1].rung == 0
    return first or not record.degraded


def key_of(parts: Mapping[str, Any]) -> str:
    """The cache key: a digest of the parts."""
    return digest_bytes(json.dumps(parts, sort_keys=True).encode())


def node_key(node: Node, seed: int, run: RunDirectory) -> str:
    """The key of a node whose inputs are all recorded in `run`."""
    return key_of(key_parts(node, seed, run))


@dataclass(frozen=True)
class Hit:
    """A finished node of another run that answers to a key."""

    run: RunDirectory
    node: str


class CacheIndex:
    """Keys of finished nodes of all runs below one outputs folder."""

    def __init__(self, root: Path) -> None:
        self._inside = Inside(root)

    @staticmethod
    def _entry(key: str) -> str:
        return f"{FOLDER}/{key.replace(':', '-')}.json"

    def add(self, key: str, run: RunDirectory, node: str) -> None:
        """Remember where a node's result lies. Losing an entry only costs time, so no fsync."""
        self._inside.root.mkdir(parents=True, exist_ok=True)
        self._inside.make_folder(FOLDER)
        entry = {"run": str(run.path.resolve()), "node": node}
        for one in {key, *keys_of(run.manifest.nodes[node])}:
            self._inside.write(self._entry(one), json_bytes(entry), durable=False)

    def find(self, key: str) -> Hit | None:
        """The node that answers to `key`, if its run and files are still whole."""
        try:
            with self._inside.read(self._entry(key)) as stream:
                entry = json_data(limited(stream, JSON_BYTES))
            run = RunDirectory.open(Path(entry["run"]))
            record = run.manifest.nodes[entry["node"]]
        except (OSError, ValueError, KeyError, TypeError, RunRecordError):
            return None
        if record.state != "done" or not answers_to_its_key(record) or key not in keys_of(record):
            return None
        return None if run.intact(entry["node"]) else Hit(run, entry["node"])

    def forget(self, run: RunDirectory) -> None:
        """Drop the entries that name a run whose nodes' files are about to go."""
        with contextlib.suppress(OSError):
            for record in run.manifest.nodes.values():
                for key in keys_of(record) if record.key else ():
                    if self._run_of(key) == str(run.path.resolve()):
                        self._inside.remove(self._entry(key))

    def _run_of(self, key: str) -> str:
        with (
            contextlib.suppress(OSError, ValueError, KeyError, TypeError),
            self._inside.read(self._entry(key)) as stream,
        ):
            return str(json_data(limited(stream, JSON_BYTES))["run"])
        return ""

    def adopt(self, hit: Hit, run: RunDirectory, node: str) -> NodeRecord:
        """Take a hit's files (previews too) into `run`, safely on disk; the record to keep.

        Both runs may share them (`Inside.share`): neither writes to a finished file, and what
        somebody else writes there is noticed in both, by their digests. Raises OSError.
        """
        record = hit.run.manifest.nodes[hit.node]
        run.inside.make_folder(node)
        stage_pictures.clear(run, node)  # of what was here before

        def share(name: str) -> None:
            run.inside.share(hit.run.inside, f"{hit.node}/{name}", f"{node}/{name}", True)

        for item in itertools.chain.from_iterable(record.artifacts.values()):
            share(item.file)
        for name in record.artifacts:
            with contextlib.suppress(FileNotFoundError):  # not every artifact has a preview
                share(f"{name}.png")
        run.inside.sync_folder(node)
        return record.model_copy(
            update={"attempts": [], "cached_from": printable(hit.run.path), "reason": "same key"}
        )


def damage(node: Node, run: RunDirectory) -> str:
    """What is wrong with a finished node's record and files, or ""."""
    kept = run.manifest.nodes[node.name].artifacts
    for spec in node.outputs:
        if not spec.optional and not kept.get(spec.name):
            return f"{spec.name} is not recorded"
    return run.intact(node.name)


def demote_stale(whole: Graph, run: RunDirectory) -> None:
    """Let no record say "done" whose inputs, params, weights or seed are not those of this run now.

    Nodes that the profile does not have are set aside. Files stay: a node whose key comes back is
    taken over again.
    """
    records = run.manifest.nodes
    for name in [name for name in records if name not in whole.nodes]:
        run.manifest.former[name] = records.pop(name)
    for name, node in whole.nodes.items():
        record = records.get(name)
        if record is None or record.state != "done" or not record.key:
            continue
        undone = sorted(n for n in node.upstream if n not in records or records[n].state != "done")
        if undone:
            record.state, record.reason = "pending", f"reads from {undone[0]}, which is not done"
        elif node_key(node, run.manifest.seed, run) not in keys_of(record):
            reason = "its params, seed, weights or inputs have changed"
            record.state, record.reason = "pending", reason


def take_over(node: Node, run: RunDirectory, cache: CacheIndex | None) -> str:
    """Use a finished equal of `node` if there is one: where it came from, or "".

    The run's own result is preferred; one of another run is copied into this one.
    """
    record = run.manifest.nodes[node.name]
    key = node_key(node, run.manifest.seed, run)
    if key in keys_of(record) and record.artifacts and not damage(node, run):
        record.state, record.reason = "done", ""
        return "this run"
    hit = cache.find(key) if cache is not None else None
    if hit is None or cache is None:
        return ""
    try:
        run.manifest.nodes[node.name] = cache.adopt(hit, run, node.name)
        run.save()
    except OSError:  # no room for a copy: computing it will say so, or find room
        run.manifest.nodes[node.name] = record
        run.discard_partial(node.name)
        return ""
    return str(hit.run.path)


def changed(old: Mapping[str, object], new: Mapping[str, object], at: str = "") -> list[str]:
    """Dotted paths whose values differ between two nested mappings."""
    found = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += changed(before, after, f"{at}{key}.")
        elif before != after:
            found.append(f"{at}{key}")
    return found
