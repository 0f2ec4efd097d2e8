"""How well each candidate's mesh agrees with what was given, asked of a process of its own."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.commands.batch import Outcome
from orchestrator.commands.batch_directory import Batch
from orchestrator.pipeline.graph import INPUT, Graph, Source
from orchestrator.planning.request import Prepared
from orchestrator.processes.json_child import NoAnswerError, ask
from orchestrator.record.run_directory import RunDirectory
from orchestrator.system.inside import Inside
from orchestrator.system.locks import CANDIDATES_FILE
from orchestrator.system.reading import JSON_BYTES, json_data, limited

MESH = "mesh"
BUNDLE = "bundle"
PICTURES = ("image", "alpha", "given_views")
USUAL_RADIUS = 4.15
"""Of cameras of a mesh whose stage has no such param."""
MAX_SECONDS = 600.0
"""For one score; it takes two."""


@dataclass(frozen=True)
class Candidate:
    """One seed's end. scores: see `stages.evaluation.agreement`; None without a mesh, or where it
    could not be scored: `why` says so then."""

    outcome: Outcome
    seed: int
    scores: Mapping[str, Any] | None
    why: str = ""

    @property
    def score(self) -> float:
        return float(self.scores["score"]) if self.scores else -1.0

    def row(self) -> dict[str, Any]:
        return {
            "name": self.outcome.name,
            "seed": self.seed,
            "state": self.outcome.state,
            "scores": self.scores,
            "why": self.why,
        }


def scored(
    batch: Batch, prepared: Prepared, outcome: Outcome, known: Mapping[str, Any]
) -> Candidate:
    """A run with its scores: those of an earlier go, where its mesh is still the same."""
    seed = batch.jobs[outcome.name].seed or 0
    if outcome.run is None or outcome.run.manifest.state != "done":
        return Candidate(outcome, seed, None, outcome.error or "not finished")
    digest = _digest(outcome.run, prepared.graph)
    old = known.get(outcome.name)
    if isinstance(old, Mapping) and old.get("mesh") == digest and _are_scores(old):
        return Candidate(outcome, seed, old)
    try:
        files = _files(outcome.run, prepared.graph)
        answer = ask(["-m", "stages.evaluation.agreement", json.dumps(files)], timeout=MAX_SECONDS)
    except NoAnswerError as error:
        return Candidate(outcome, seed, None, f"the scoring process failed: {error}")
    if not _are_scores(answer):
        return Candidate(outcome, seed, None, str(answer.get("error", "no scores")))
    scores = {**answer, "mesh": digest}
    outcome.run.event("scored", **{k: v for k, v in scores.items() if k != "mesh"})
    return Candidate(outcome, seed, scores)


def _are_scores(found: Mapping[str, Any]) -> bool:
    return all(isinstance(found.get(key), float | int) for key in ("score", "outlines", "colours"))


def source_of(graph: Graph, artifact: str) -> Source | None:
    """Which node writes an artifact."""
    for name, node in graph.nodes.items():
        if any(spec.name == artifact for spec in node.outputs):
            return Source(name, artifact)
    return None


def _files(run: RunDirectory, graph: Graph) -> dict[str, Any]:
    """What the scoring process reads: paths by name, and the cameras' distance."""
    mesh = source_of(graph, MESH)
    assert mesh is not None, "`require_choice` comes first"
    maker = graph.nodes[mesh.node]
    found: dict[str, Any] = {"radius": maker.params.get("radius", USUAL_RADIUS)}
    found[MESH] = _paths(run, mesh)
    for name in PICTURES:
        if (source := source_of(graph, name)) and (paths := _paths(run, source)):
            found[name] = paths[0]
    bundle = maker.inputs.get(BUNDLE)
    if bundle is not None and bundle.node != INPUT and (paths := _paths(run, bundle)):
        found[BUNDLE] = paths[0]
    return found


def _paths(run: RunDirectory, source: Source) -> list[str]:
    records = run.manifest.nodes[source.node].artifacts.get(source.artifact, [])
    return [str(run.path.resolve() / source.node / record.file) for record in records]


def _digest(run: RunDirectory, graph: Graph) -> str:
    """Of the mesh and of what it is held to."""
    sources = [source_of(graph, name) for name in (MESH, *PICTURES)]
    return " ".join(
        record.digest
        for source in sources
        if source is not None
        for record in run.manifest.nodes[source.node].artifacts.get(source.artifact, [])
    )


def known_scores(path: Path) -> dict[str, Any]:
    """What candidates.json says of an earlier go; nothing where it cannot be read."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        with Inside(path).read(CANDIDATES_FILE) as stream:
            rows = json_data(limited(stream, JSON_BYTES))["candidates"]
        return {row["name"]: row["scores"] for row in rows if row.get("scores")}
    return {}
