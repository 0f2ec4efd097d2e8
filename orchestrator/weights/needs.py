"""Which weights a graph or a profile needs, and which of them this machine lacks.

What a node needs follows from its stage's `weights(params)`, with the params of the rung that it
will start on. A lower rung's weights are asked for by `models pull --fallbacks` only: without them
that rung fails, and the next one is tried.
"""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.errors import ConfigError, MissingWeightsError, UnknownNameError, UsageError
from orchestrator.pipeline import layers
from orchestrator.pipeline.graph import INPUT, Graph, Node
from orchestrator.pipeline.profile import Attempt
from orchestrator.pipeline.weights_record import WeightsRecord
from orchestrator.system.text import printable
from orchestrator.weights import places
from stages.weights import catalogue as weights
from stages.weights.catalogue import Model
from stages.weights.identity import identify


@dataclass(frozen=True)
class Missing:
    """Weights that are not here. model: None where params name a path that does not exist."""

    name: str
    nodes: tuple[str, ...]
    model: Model | None

    @property
    def size(self) -> int:
        """Bytes to download."""
        return 0 if self.model is None else self.model.size

    def row(self) -> dict[str, Any]:
        return {"name": self.name, "gb": round(self.size / 1e9, 2), "nodes": list(self.nodes)}


def catalogue() -> dict[str, Model]:
    """configs/models.yaml. Raises `ConfigError`."""
    try:
        return weights.catalogue()
    except weights.CatalogueError as error:
        raise ConfigError(str(error)) from error


def needs(
    graph: Graph, gpu: bool = True, fallbacks: bool = False, given: Collection[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Names of weights -> the nodes that load them, in the graph's order.

    gpu: whether a card may be used; it settles on which rung a node starts. fallbacks: the rungs
    below that one too. given: artifacts of the user's own, beside which a node may need none.
    """
    found: dict[str, tuple[str, ...]] = {}
    for node in graph.nodes.values():
        if _spared(node, given):
            continue
        first = _first_rung(node, gpu)
        ladder = node.config.attempts[first:] if fallbacks else node.config.attempts[first:][:1]
        for name in dict.fromkeys(n for rung in ladder for n in _weights_of(node, rung)):
            found[name] = (*found.get(name, ()), node.name)
    return found


def _first_rung(node: Node, gpu: bool) -> int:
    """Without a card a node falls to its first CPU rung before any process starts."""
    rungs = node.config.attempts
    on_cpu = [index for index, rung in enumerate(rungs) if rung.device == "cpu"]
    return 0 if gpu or not on_cpu else on_cpu[0]


def _weights_of(node: Node, rung: Attempt) -> tuple[str, ...]:
    stage = layers.node_stage(node.name, node.config)
    return stage.weights(layers.params_of(node.name, node.config, rung))


def _spared(node: Node, given: Collection[str]) -> bool:
    read = [
        name
        for name, source in node.inputs.items()
        if source.node == INPUT and source.artifact in given
    ]
    stage, params = (
        layers.node_stage(node.name, node.config),
        layers.params_of(node.name, node.config),
    )
    return bool(read) and stage.spares_weights(params, read)


def with_identities(graph: Graph) -> Graph:
    """The same graph, its nodes knowing which weights each of their rungs would load now.

    Looked up once, before anything starts, so that all keys of a command speak of the same files.
    Missing weights have an empty record. Raises `ConfigError` for a broken catalogue.
    """
    known = functools.cache(_identity)
    return Graph(
        replace(
            node,
            weights=tuple(
                tuple(known(name, False) for name in _weights_of(node, rung))
                + tuple(known(name, True) for name in _optional_weights_of(node, rung))
                for rung in node.config.attempts
            ),
        )
        for node in graph.nodes.values()
    )


def _identity(name: str, optional: bool) -> WeightsRecord:
    catalogue()
    found = identify(name)
    place = printable(found.place) if found.place else ""
    return WeightsRecord(
        name=name,
        place=place,
        revision=found.revision,
        digest=found.digest,
        optional=optional,
    )


def _optional_weights_of(node: Node, rung: Attempt) -> tuple[str, ...]:
    stage = layers.node_stage(node.name, node.config)
    return stage.optional_weights(layers.params_of(node.name, node.config, rung))


def _optional_of(graph: Graph) -> list[str]:
    """What the nodes do without where it is missing, though worse: the cut-out network."""
    return [
        name
        for node in graph.nodes.values()
        for name in _optional_weights_of(node, node.config.attempts[0])
    ]


def missing_for(graph: Graph, gpu: bool = True, given: Collection[str] = ()) -> list[Missing]:
    """The weights that `graph` needs and this machine lacks; empty: it can start."""
    needed = needs(graph, gpu, given=given)
    known = catalogue() if needed else {}
    return [
        Missing(name, nodes, known.get(name))
        for name, nodes in needed.items()
        if weights.locate(name) is None
    ]


def shortage(
    graph: Graph,
    gpu: bool,
    will_run: Callable[[], Collection[str]] | None = None,
    given: Collection[str] = (),
) -> MissingWeightsError | None:
    """What to tell where a node that will run lacks weights; None: nothing is lacking.

    will_run: names of the nodes that are not taken from the cache; asked only if something is
    missing. None: all of them. given: as in `needs`.
    """
    missing = missing_for(graph, gpu, given)
    if missing and will_run is not None:
        running = set(will_run())
        missing = [item for item in missing if running & set(item.nodes)]
    if not missing:
        return None
    return missing_error(missing, [*what_is_there(missing), *lower_rungs(graph, missing, gpu)])


def require(
    graph: Graph,
    gpu: bool,
    will_run: Callable[[], Collection[str]] | None = None,
    given: Collection[str] = (),
) -> None:
    """Raise the `MissingWeightsError` of `shortage`, if there is one."""
    if error := shortage(graph, gpu, will_run, given):
        raise error


def missing_error(missing: Sequence[Missing], notes: Iterable[str] = ()) -> MissingWeightsError:
    """What is missing, how large it is, and the one command that gets it."""
    listed = [item for item in missing if item.model is not None]
    lines = [_line(item) for item in missing]
    if len(listed) > 1:
        lines.append(f"  {'together':<24} {_gb(sum(item.size for item in listed)):>8}")
    names = " ".join(item.name for item in listed)
    hint = f"kiss3d-orchestrate models pull {names}" if listed else "correct the path in the params"
    return MissingWeightsError(
        "\n".join(["weights that this needs are not on this machine:", *lines, *notes]),
        hint,
        [item.row() for item in missing],
    )


def what_is_there(missing: Sequence[Missing]) -> list[str]:
    """Lines on settings that lead nowhere, and on models that are here in part."""
    lines = [f"  {fault}" for fault in places.faults()]
    for item in missing:
        folder = weights.locate_part(item.model) if item.model else None
        if item.model and folder:
            lacks = weights.missing_files(item.model, folder)
            lines.append(f"  {folder} holds a part of {item.name}, but not {', '.join(lacks)}")
    return lines


def _line(item: Missing) -> str:
    nodes = ", ".join(item.nodes)
    if item.model is None:
        return f"  {item.name}: no such file or folder, which {nodes} names"
    gated = f"  (gated: {item.model.page})" if item.model.gated else ""
    return f"  {item.name:<24} {_gb(item.size):>8}  {nodes}{gated}".rstrip()


def lower_rungs(graph: Graph, missing: Sequence[Missing], gpu: bool) -> list[str]:
    """A line for each node that lacks weights, but not those of one of its lower rungs.

    It is not started there unasked: the result would be another one than the profile promises.
    """
    lines = []
    for name in dict.fromkeys(node for item in missing for node in item.nodes):
        node = graph.nodes[name]
        rungs, first = node.config.attempts, _first_rung(node, gpu)
        for rung in rungs[first + 1 :]:
            needed = _weights_of(node, rung)
            if needed and all(weights.locate(one) is not None for one in needed):
                cost = f" ({rung.degraded})" if rung.degraded else ""
                lines.append(
                    f"  {name} could use {', '.join(needed)}, which is here{cost}"
                    + _way_there(name, rungs[first], rung)
                )
                break
    return lines


def _way_there(node: str, first: Attempt, rung: Attempt) -> str:
    """The options that make `first` load what `rung` does; "" where it has its own word in it."""
    if not rung.params or set(rung.params) & set(first.params):
        return ""
    sets = (f"{node}.{key}={json.dumps(value)}" for key, value in rung.params.items())
    return ": " + " ".join(f"--set {shlex.quote(text)}" for text in sets)


def profile_needs(profile: str, fallbacks: bool = False) -> dict[str, tuple[str, ...]]:
    """As `needs`, of a shipped profile on a machine with a card."""
    return needs(profile_graph(profile), fallbacks=fallbacks)


def profile_graph(profile: str) -> Graph:
    """A shipped profile's graph, with the rungs that a run tries unless --device says more."""
    return Graph.from_profile(layers.load(profile).profile).on_device("auto")


def select(
    names: Sequence[str],
    profile: str | None = None,
    fallbacks: bool = False,
    optional: bool = False,
) -> list[Model]:
    """Entries of the catalogue by name and by profile. Raises `UsageError`s.

    optional: with a profile, what it does better with as well.
    """
    known = catalogue()
    for name in names:
        if name not in known:
            raise UnknownNameError("model", name, known)
    wanted = [*names, *(profile_needs(profile, fallbacks) if profile else ())]
    wanted += _optional_of(profile_graph(profile)) if profile and optional else ()
    return [known[name] for name in dict.fromkeys(wanted) if name in known]


def select_some(names: Sequence[str], profile: str | None, fallbacks: bool = False) -> list[Model]:
    """All that is to be pulled: optional weights too. Asking for nothing at all is an error."""
    if not names and not profile:
        raise UsageError(
            "which models? give names or --profile NAME", "kiss3d-orchestrate models list"
        )
    return select(names, profile, fallbacks, optional=True)


def profiles_by_model() -> dict[str, tuple[str, ...]]:
    """Name of weights -> the shipped profiles that need them."""
    found: dict[str, tuple[str, ...]] = {}
    for profile in layers.profile_names():
        for name in profile_needs(profile):
            found[name] = (*found.get(name, ()), profile)
    return found


def total_gb(names: Iterable[str], known: Mapping[str, Model]) -> float:
    """Gigabytes of these entries together."""
    return sum(known[name].size_gb for name in names if name in known)


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 5e8 else f"{size / 1e6:.0f} MB"
