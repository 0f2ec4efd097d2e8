"""What run.json says of a run, in words: nodes and their attempts, settings, weights, versions.

The record may come from anybody, so nothing in it is taken to be of the kind that this program
writes where the record leaves it open.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from orchestrator.errors import KissError, command
from orchestrator.pipeline.layers import DEFAULT, EMPTY, from_record
from orchestrator.pipeline.value_text import value_text
from orchestrator.record.manifest import AttemptRow, Manifest, NodeRecord
from orchestrator.record.run_directory import RunDirectory
from orchestrator.report.logs import log_tail
from orchestrator.system.terminal import as_typed
from orchestrator.system.text import format_size
from stages.weights.catalogue import CatalogueError, catalogue

COMES_ALONG = "sketch_net.safetensors"
"""The file of the package's own weights."""


@dataclass(frozen=True)
class AttemptFacts:
    """One try of one node; sizes and seconds as text, "-" where they are not known."""

    number: int
    device: str
    start: str
    outcome: str
    wall: str
    load: str
    compute: str
    predicted: str
    measured: str
    released: str
    rss: str
    params: str
    message: str
    hint: str
    move: str
    log: str


@dataclass(frozen=True)
class NodeFacts:
    """One node. state: "cached" where the result was taken from an earlier run."""

    name: str
    stage: str
    state: str
    reason: str
    cached_from: str
    degraded: str
    warnings: tuple[str, ...]
    attempts: tuple[AttemptFacts, ...]


@dataclass(frozen=True)
class Setting:
    """One value, and the layer that set it. plain: nobody did, it is the default"""

    path: str
    value: str
    origin: str
    plain: bool


@dataclass(frozen=True)
class Weights:
    """Weights that a node loaded, and on which terms they may be used."""

    name: str
    nodes: str
    revision: str
    licence: str
    page: str


def node_facts(run: RunDirectory) -> list[NodeFacts]:
    """All nodes, in the order in which they run."""
    return [_node(run, name, record) for name, record in run.manifest.nodes.items()]


def _node(run: RunDirectory, name: str, record: NodeRecord) -> NodeFacts:
    cached = record.state == "done" and (record.cached_from or not record.attempts)
    return NodeFacts(
        name,
        record.stage,
        "cached" if cached else record.state,
        record.reason,
        record.cached_from,
        record.degraded,
        tuple(record.warnings),
        tuple(_attempt(run, name, n, row) for n, row in enumerate(record.attempts, start=1)),
    )


def _attempt(run: RunDirectory, node: str, number: int, row: AttemptRow) -> AttemptFacts:
    verdict = str(row.vram.get("verdict", ""))
    return AttemptFacts(
        number,
        f"{row.device} {row.dtype}",
        "warm" if row.warm else f"cold{f': {row.cold_reason}' if row.cold_reason else ''}",
        row.outcome,
        f"{row.seconds:.2f}",
        f"{row.timings.get('import', 0.0) + row.timings.get('load', 0.0):.2f}",
        f"{row.timings.get('compute', 0.0):.2f}",
        _size(row.predicted.get("vram")),
        _size(row.vram.get("peak")),
        "-" if verdict in ("", "no gpu used") else verdict,
        _size(row.peak_rss),
        ", ".join(f"{name} = {value_text(value)}" for name, value in row.params.items()),
        row.message,
        row.hint,
        "" if row.outcome == "done" else row.move,
        log_tail(run, node, row),
    )


def _size(value: object) -> str:
    return format_size(value) if isinstance(value, int) else "-"


def degradations(nodes: list[NodeFacts]) -> list[tuple[str, str, str]]:
    """(node, what its result lacks, why: the tries that failed before it) of each that lacks any"""
    return [
        (
            node.name,
            node.degraded,
            "; ".join(
                f"attempt {row.number} on {row.device}: {row.outcome}: {row.message}"
                for row in node.attempts
                if row.outcome != "done"
            ),
        )
        for node in nodes
        if node.degraded
    ]


def settings_of(manifest: Manifest) -> list[Setting]:
    """Every value with its origin, as `config show` has them; without the defaults of params where
    a stage of the run is not installed here."""
    try:
        effective = from_record(manifest.profile, manifest.settings, manifest.sources)
        rows: list[tuple[str, Any, str]] = list(effective.rows())
    except KissError:
        sources = manifest.sources
        rows = [(path, v, sources.get(path, DEFAULT)) for path, v in _leaves(manifest.settings)]
    return [
        Setting(path.removeprefix("nodes."), _text(value), origin, origin == DEFAULT)
        for path, value, origin in rows
        if path != "description"
    ]


def _text(value: Any) -> str:
    try:
        return value_text(value)
    except ValueError:  # what looks like a rung and is none
        return repr(value)


def _leaves(data: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{at}{key}.")
        else:
            yield f"{at}{key}", value


def weights_of(manifest: Manifest) -> list[Weights]:
    """The weights that were loaded, each once."""
    found: dict[str, tuple[str, list[str]]] = {}
    for node, record in manifest.nodes.items():
        for one in record.weights:
            if one.place:
                found.setdefault(one.name, (one.revision, []))[1].append(node)
    known = {}
    with contextlib.suppress(CatalogueError):
        known = catalogue() if found else {}
    rows = []
    for name, (revision, nodes) in found.items():
        model = known.get(name)
        if PurePath(name).name == COMES_ALONG:  # the record has its path
            name, licence = COMES_ALONG, "comes with the program, under its licence"
        else:
            licence = model.licence if model else "not in the catalogue: see where they come from"
        rows.append(Weights(name, ", ".join(nodes), revision, licence, model.page if model else ""))
    return rows


def machine_facts(manifest: Manifest) -> list[tuple[str, str]]:
    """(what, which) of the machine and the packages that the run was made with."""
    machine = manifest.machine
    gpus = machine.get("gpus")
    cards = [
        f"{gpu.get('name', '?')} ({_size(gpu.get('total'))})"
        for gpu in (gpus if isinstance(gpus, list) else [])
        if isinstance(gpu, Mapping)
    ]
    rows = [
        ("kiss3d-orchestrate", manifest.version),
        ("Python", machine.get("python")),
        ("system", machine.get("platform")),
        ("CPU cores", machine.get("cores")),
        ("memory", _size(machine.get("ram_bytes"))),
        ("cards", ", ".join(cards) or machine.get("gpu_note") or "none"),
        ("driver", machine.get("driver")),
    ]
    packages = machine.get("packages")
    rows += packages.items() if isinstance(packages, Mapping) else ()
    return [(what, str(which)) for what, which in rows if which not in (None, "", "-")]


_UNNAMED = ("input_image", "input_mesh")
"""What `run` takes without an option."""


def again(manifest: Manifest) -> str:
    """The command line that makes the run again, as it is typed on this machine.

    A user's own settings file is named as the record names it: without its folder.
    """
    words: list[object] = ["run"]
    for artifact, given in manifest.given.items():
        option = f"--{artifact.removeprefix('input_')}"
        words += [given.source] if artifact in _UNNAMED else [option, given.source or given.text]
    if manifest.profile and manifest.profile != EMPTY:
        words += ["--profile", manifest.profile]
    origins = dict.fromkeys(manifest.sources.values())
    for origin in origins:
        kind, _, rest = origin.partition(" ")
        if kind == "--fast":
            words += ["--fast"]
        elif kind == "file" and rest:
            words += ["--config", rest]
    for origin in origins:
        kind, _, rest = origin.partition(" ")
        if kind == "--set" and rest:
            words += ["--set", rest]
    if "seed" not in manifest.sources or not manifest.sources["seed"].startswith("--set"):
        words += ["--seed", manifest.seed]
    if manifest.until:
        words += ["--until", manifest.until]
    if manifest.device != "auto":
        words += ["--device", manifest.device]
    if manifest.target_vram:
        words += ["--target-vram", f"{manifest.target_vram:g}"]
    if manifest.host_ram:
        words += ["--host-ram", f"{manifest.host_ram:g}"]
    return as_typed(command(*words))


def when(seconds: float) -> str:
    """A moment, in seconds since 1970, on this machine's clock; "" for none."""
    with contextlib.suppress(OSError, OverflowError, ValueError):
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds)) if seconds else ""
    return ""
