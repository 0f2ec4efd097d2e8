"""What the runner knows of one job: a run directory, and where each node stands."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from orchestrator.pipeline.graph import INPUT, Graph, Node
from orchestrator.record.handover import accept_outputs
from orchestrator.record.manifest import AttemptRow, FileRecord, NodeRecord, NodeState
from orchestrator.record.preview_sheet import PreviewSheet
from orchestrator.record.run_directory import RunDirectory
from stages.process.protocol import Part

Standing = Literal["waiting", "ready", "running", "made", "done", "failed", "skipped"]
"""Where a node stands. made: its files are in their place, so that readers may start, and on their
way to the disk; done: the disk has them."""
READABLE: Final = frozenset[Standing]({"made", "done"})
OVER: Final = READABLE | {"failed", "skipped"}
RECORDED: Final[Mapping[Standing, NodeState]] = {
    "waiting": "pending",
    "ready": "pending",
    "running": "running",
    "made": "running",
    "done": "done",
    "failed": "failed",
    "skipped": "skipped",
}
"""What run.json says of it: after a crash, what was only made is computed again."""


@dataclass(slots=True)
class NodeProgress:
    """One node of one job while the runner works. `Job.enter` alone changes `standing`.

    fresh   computed (or taken back) in this run of the runner, so its readers need no cache look-up
    ahead   a process may be started for it before its inputs are there: none has failed to load yet
    """

    standing: Standing = "waiting"
    rung: int = 0
    tries: int = 0
    fresh: bool = False
    ahead: bool = True
    attempt: AttemptRow | None = None


@dataclass(eq=False)
class Job:
    """One picture on its way through the graph.

    graph    what is to be computed; whole: the profile's, of which that may be a part
    force    nodes to compute even if an equal result exists
    closed   its books are closed: result written, manifest final
    unsaved  the manifest has news that is not on disk yet
    at_rest  nothing more will come to its record, which is on the disk alone
    sheet    its preview, drawn in part while the last node computes
    """

    name: str
    run: RunDirectory
    graph: Graph
    whole: Graph
    force: frozenset[str] = frozenset()
    nodes: dict[str, NodeProgress] = field(default_factory=dict)
    error: str = ""
    closed: bool = False
    unsaved: bool = False
    at_rest: bool = False
    started: float = field(default_factory=time.monotonic)
    sheet: PreviewSheet = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.sheet = PreviewSheet(self.run)
        self.nodes = {name: NodeProgress() for name in self.graph.nodes}

    def begin(self) -> None:
        """Its turn has come: its record has all nodes. Until then it may rest on the disk."""
        for name, node in self.graph.nodes.items():
            record = self.run.manifest.nodes.setdefault(name, NodeRecord())
            record.stage = node.config.stage

    def lose(self, reason: str) -> None:
        """Its record has gone before its turn came: there is nothing to enter this in."""
        for progress in self.nodes.values():
            progress.standing = "failed"
        self.error = reason
        self.closed = self.at_rest = True

    def enter(self, node: str, standing: Standing, reason: str | None = None) -> None:
        """Put a node where it stands now, here and in the manifest. reason: None keeps its own."""
        self.nodes[node].standing = standing
        record = self.run.manifest.nodes[node]
        record.state = RECORDED[standing]
        if reason is not None:
            record.reason = reason

    def standing(self, names: Iterable[str]) -> set[Standing]:
        return {self.nodes[name].standing for name in names}

    @property
    def over(self) -> bool:
        return self.standing(self.graph.nodes) <= OVER

    @property
    def succeeded(self) -> bool:
        return self.standing(self.graph.nodes) <= READABLE

    @property
    def last(self) -> str:
        """The node that alone has yet to be made, or ""."""
        open_nodes = [name for name, node in self.nodes.items() if node.standing not in READABLE]
        return open_nodes[0] if len(open_nodes) == 1 else ""

    def written(self) -> dict[str, str]:
        """Artifact name -> the node that wrote it, of those that can be read."""
        return {
            artifact: name
            for name, node in self.nodes.items()
            if node.standing in READABLE
            for artifact in self.run.manifest.nodes[name].artifacts
        }

    def input_paths(self, node: Node) -> dict[str, list[str]]:
        """Absolute paths of a node's inputs, by input name; a missing optional one is left out."""
        paths: dict[str, list[str]] = {}
        for name, source in node.inputs.items():
            if source.node == INPUT:
                if given := self.run.given_path(source.artifact):
                    paths[name] = [str(given)]
            elif source.artifact in self.run.manifest.nodes[source.node].artifacts:
                files = self.run.artifact_paths(source.node, source.artifact)
                paths[name] = [str(path) for path in files]
        return paths

    def accept(
        self, node: Node, outputs: Mapping[str, Sequence[Part]], contents: bytes
    ) -> dict[str, list[FileRecord]]:
        """Put what a child handed over in its place: see `accept_outputs`."""
        return accept_outputs(self.run.inside, node.name, node.outputs, outputs, contents)

    def fail(self, node: str, reason: str) -> None:
        """Mark a node failed and everything that depends on it skipped."""
        self.enter(node, "failed", reason)
        self.error = self.error or f"{node}: {reason}"
        for name in self.graph.descendants(node):
            self.enter(name, "skipped", f"needs {node}, which failed")
