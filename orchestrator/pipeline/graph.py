"""The pipeline as data: nodes from a profile, edges from artifact names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.errors import (
    ConfigError,
    UnknownNameError,
)
from orchestrator.pipeline.budget import Prediction
from orchestrator.pipeline.layers import node_stage, params_of
from orchestrator.pipeline.profile import NodeConfig, Profile
from orchestrator.pipeline.weights_record import WeightsRecord
from stages.contract import ArtifactSpec

INPUT = "input"
"""Pseudo node that stands for what the user gave: it writes the artifacts of `GIVEN`, as far as
they were given."""
GIVEN = (
    "input_image",
    "input_mask",
    "input_back",
    "input_left",
    "input_right",
    "input_text",
    "input_mesh",
)
MASK = "input_mask"
SIDES = ("input_back", "input_left", "input_right")
CUT_SIDES = "given_views"
"""What `SIDES` become when they are cut out."""
GIVEN_MESH = "given_mesh"
"""What `input_mesh` becomes when it is read."""


@dataclass(frozen=True)
class Source:
    """Where an input comes from: which node, and under which artifact name."""

    node: str
    artifact: str


@dataclass(frozen=True)
class Node:
    """A node with its contract resolved.

    inputs    input name of the stage -> where it comes from (optional inputs nobody writes: absent)
    params    the validated params, as plain data
    skipped   upper rungs of the profile's ladder that the budget rules out, and why
    uses_seed  whether the output depends on the seed
    weights   for each rung, the weights that it loads, as they were when this was planned
    predictions  rung -> what it is expected to take, for those that were measured once
    """

    name: str
    config: NodeConfig
    version: int
    outputs: tuple[ArtifactSpec, ...]
    inputs: Mapping[str, Source]
    params: Mapping[str, Any]
    preload: tuple[str, ...]
    uses_seed: bool = True
    weights: tuple[tuple[WeightsRecord, ...], ...] = ()
    skipped: tuple[str, ...] = ()
    predictions: Mapping[int, Prediction] = field(default_factory=dict)

    @property
    def upstream(self) -> set[str]:
        return {source.node for source in self.inputs.values() if source.node != INPUT}


class Graph:
    """Nodes in an order in which each comes after all that it reads from."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes: dict[str, Node] = {node.name: node for node in nodes}

    @classmethod
    def from_profile(cls, profile: Profile) -> Graph:
        """Resolve contracts and edges.

        Raises `ConfigError` for an input that nobody writes, two writers of one artifact, or a
        cycle.
        """
        enabled = {name: node for name, node in profile.nodes.items() if node.enabled}
        if not enabled:
            raise ConfigError("the profile has no enabled node")
        writers: dict[str, str] = dict.fromkeys(GIVEN, INPUT)
        for name, config in enabled.items():
            for spec in node_stage(name, config).outputs:
                if spec.name in writers:
                    raise ConfigError(f"{writers[spec.name]} and {name} both write {spec.name}")
                writers[spec.name] = name
        nodes = {name: _resolve(name, config, writers) for name, config in enabled.items()}
        return cls(_in_order(nodes))

    def require(self, name: str) -> Node:
        """The node of this name. Raises `UnknownNameError`."""
        if name not in self.nodes:
            stages = {node.config.stage: other for other, node in self.nodes.items()}
            meant = f"{name} is the stage of node {stages[name]}" if name in stages else ""
            raise UnknownNameError("node", name, self.nodes, meant=meant)
        return self.nodes[name]

    @property
    def given(self) -> dict[str, bool]:
        """Artifact of `GIVEN` that a node reads -> whether one cannot do without it.

        Pictures of sides that are only cut out, for nobody, are not read.
        """
        found: dict[str, bool] = {}
        read = {source.artifact for node in self.nodes.values() for source in node.inputs.values()}
        for name, node in self.nodes.items():
            in_vain = CUT_SIDES not in read and CUT_SIDES in {spec.name for spec in node.outputs}
            for spec in node_stage(name, node.config).inputs:
                source = node.inputs.get(spec.name)
                if source is not None and source.artifact in SIDES and in_vain:
                    continue
                if source is not None and source.node == INPUT:
                    needed = not spec.optional or found.get(source.artifact, False)
                    found[source.artifact] = needed
        return found

    @property
    def uses_seed(self) -> bool:
        """Whether any node's output depends on the seed."""
        return any(node.uses_seed for node in self.nodes.values())

    def upstream(self, name: str) -> set[str]:
        """Nodes of this graph that `name` reads from directly.

        A part of a profile's graph takes what its nodes read from elsewhere as given.
        """
        return self.nodes[name].upstream & set(self.nodes)

    def ancestors(self, name: str) -> set[str]:
        """All nodes that `name` depends on, itself left out."""
        found: set[str] = set()
        waiting = [name]
        while waiting:
            for parent in self.upstream(waiting.pop()) - found:
                found.add(parent)
                waiting.append(parent)
        return found

    def descendants(self, name: str) -> set[str]:
        """All nodes that depend on `name`, itself left out."""
        return {other for other in self.nodes if name in self.ancestors(other)}

    def until(self, name: str) -> Graph:
        """The part of the graph that `name` needs, itself included."""
        self.require(name)
        wanted = {*self.ancestors(name), name}
        return Graph(node for node in self.nodes.values() if node.name in wanted)

    def on_device(self, device: str) -> Graph:
        """Keep the rungs that may be tried: with "cpu" those of the CPU, else all that a run may
        reach from the first one.

        A node whose ladder has only GPU rungs keeps it, and fails there with a clear error.
        """
        return Graph(
            replace(node, config=node.config.model_copy(update={"attempts": kept or list(rungs)}))
            for node in self.nodes.values()
            for rungs in [node.config.attempts]
            for kept in [
                [r for r in rungs if (r.device == "cpu" if device == "cpu" else r.fallback)]
            ]
        )


def _resolve(name: str, config: NodeConfig, writers: Mapping[str, str]) -> Node:
    stage = node_stage(name, config)
    known = {spec.name for spec in stage.inputs}
    for key in config.reads:
        if key not in known:
            raise UnknownNameError("input", key, known, f"reads of node {name}")
    inputs = {}
    for spec in stage.inputs:
        artifact = config.reads.get(spec.name, spec.name)
        if artifact in writers:
            inputs[spec.name] = Source(writers[artifact], artifact)
        elif not spec.optional:
            raise ConfigError(
                f"node {name} reads {artifact}, which no enabled node writes",
                f"add a node that writes it, or rename it under nodes.{name}.reads",
            )
    params = params_of(name, config)
    return Node(
        name,
        config,
        stage.version,
        stage.outputs,
        inputs,
        params.model_dump(mode="json"),
        stage.preloads(params),
        any(stage.uses_seed(params_of(name, config, rung)) for rung in config.attempts),
    )


def _in_order(nodes: Mapping[str, Node]) -> list[Node]:
    """Topological, stable in the profile's own order."""
    ordered: dict[str, Node] = {}
    while len(ordered) < len(nodes):
        ready = [n for n in nodes.values() if n.name not in ordered and n.upstream <= set(ordered)]
        if not ready:
            left = sorted(set(nodes) - set(ordered))
            raise ConfigError(f"the nodes {', '.join(left)} wait for each other in a circle")
        ordered[ready[0].name] = ready[0]
    return list(ordered.values())
