"""`run --candidates N`: one run for each of N seeds, and which agrees best with what was given.

The runs are a batch, so that each model is loaded once for all seeds. What does not depend on the
seed is computed before it, for the first run, and taken over by the others. How well a mesh agrees
with its pictures is asked of a process of its own (`stages.evaluation.agreement`).

    <batch>/seed-42/ ...      the runs
    <batch>/candidates.json   all scores, and which is the best
    <batch>/result/           copies of the best one's result
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.commands import batch as batch_run
from orchestrator.commands import batch_directory, open_run, pages
from orchestrator.commands import run as runs
from orchestrator.commands.batch_directory import Batch
from orchestrator.commands.batch_inputs import BatchInputs, Listed
from orchestrator.commands.candidate_scores import MESH, Candidate, known_scores, scored, source_of
from orchestrator.commands.subject import Subject
from orchestrator.errors import (
    ConfigError,
    InterruptedRunError,
    OutputError,
    UsageError,
    command,
)
from orchestrator.pipeline.graph import Graph
from orchestrator.planning.options import Options
from orchestrator.planning.request import Prepared
from orchestrator.processes.workspace import open_workspace
from orchestrator.record import keep
from orchestrator.record.manifest import Keep
from orchestrator.record.result_folder import REPORT_HTML, RESULT_FILES, RESULT_NAMES
from orchestrator.record.run_directory import RESULT, RunDirectory
from orchestrator.running.run_events import Observer, RunEvent
from orchestrator.system.atomic_files import write_json
from orchestrator.system.inside import Inside
from orchestrator.system.locks import CANDIDATES_FILE, as_output_error, directory_lock
from orchestrator.system.reading import JSON_BYTES, json_data, limited


def create(
    prepared: Prepared, subject: Subject, count: int, output: Path | None, options: Options
) -> Batch:
    """A new batch directory of `count` seeds, from the request's on. Raises `UsageError`s."""
    require_choice(prepared)
    seeds = range(prepared.seed, prepared.seed + count)
    listed = tuple(Listed((f"seed-{seed}",), replace(subject, seed=seed)) for seed in seeds)
    if output is not None and batch_directory.is_batch(output):
        raise OutputError(f"{output} holds a batch already", command("resume", output))
    found = BatchInputs(subject.name, subject.start, listed)
    batch_run.require_resources(prepared, [one.subject for one in listed[:1]], None, output)
    return batch_directory.new_batch(found, output, options)


def require_choice(prepared: Prepared) -> None:
    """Refuse where all candidates would be alike, or have no mesh. Raises `UsageError`s."""
    name = prepared.settings.name
    if prepared.options.until or prepared.options.from_node:
        raise UsageError("--candidates makes whole runs", "leave --until and --from out")
    graph = prepared.graph
    mesh = source_of(graph, MESH)
    if mesh is None:
        raise ConfigError(f"--candidates: profile {name} makes no mesh", "leave it out")
    if not any(graph.nodes[one].uses_seed for one in graph.ancestors(mesh.node) | {mesh.node}):
        raise ConfigError(
            f"--candidates: the mesh does not depend on the seed in profile {name}: all would "
            "be alike",
            "leave it out, or take a profile with models",
        )


def seedless(graph: Graph) -> Graph:
    """The part of a graph that makes the same of every seed."""
    drawn = {name for name, node in graph.nodes.items() if node.uses_seed}
    later = {other for name in drawn for other in graph.descendants(name)}
    return Graph(node for name, node in graph.nodes.items() if name not in drawn | later)


def execute(
    batch: Batch,
    prepared: Prepared,
    observer: Observer,
    on_end: Callable[[Sequence[Candidate]], None] = lambda found: None,
) -> list[Candidate]:
    """Run all seeds, score what came out, and put the best one's result on top.

    Raises what a run of the first seed does where what all share fails, and `InterruptedRunError`.
    """
    require_choice(prepared)
    wanted = batch.options.keep
    everything = replace(prepared, options=replace(prepared.options, keep="all"))
    told = _ToldOnce(observer)
    _compute_shared(batch, everything, told)
    use_warm = prepared.workspace is None or prepared.workspace.use_warm
    with open_workspace(use_warm) as place:
        outcomes = batch_run.execute(batch, replace(everything, workspace=place), told)
    with directory_lock(batch.path):
        known = known_scores(batch.path)
        found = [scored(batch, prepared, outcome, known) for outcome in outcomes]
        on_end(found)
        _write(batch, found)
    if wanted != "all":
        for outcome in outcomes:
            if outcome.run is not None:
                _let_go(batch, outcome.run, wanted)
    return found


def _let_go(batch: Batch, run: RunDirectory, wanted: Keep) -> None:
    """What was not to be kept goes, now that the score is known; where it cannot, it stays."""
    with contextlib.suppress(OSError), run.locked():
        run.manifest.keep = wanted
        keep.let_go(run, batch_run.cache_of(batch))
        glb = RESULT_FILES["glb"]
        if wanted == "mesh" and run.manifest.kept == wanted:
            for name in set(RESULT_FILES.values()) - {glb}:
                run.inside.remove(f"{RESULT}/{name}")


def best_of(found: Sequence[Candidate]) -> Candidate | None:
    """The one that agrees best; of equal ones the first. None where none has a score."""
    scored = [one for one in found if one.scores]
    return max(scored, key=lambda one: one.score) if scored else None


def _compute_shared(batch: Batch, prepared: Prepared, observer: Observer) -> None:
    """What no seed changes, in the first run; the others find it in the cache."""
    shared = seedless(prepared.graph)
    name, subject = next(iter(batch.jobs.items()))
    if not shared.nodes:
        return
    with directory_lock(batch.path):
        run = open_run.open_or_create(prepared, subject, batch.path / name)
        nodes = run.manifest.nodes
        if all(one in nodes and nodes[one].state == "done" for one in shared.nodes):
            return
        run.discard_partial()
        part = replace(prepared, graph=shared, options=replace(prepared.options, report=False))
        try:
            jobs = runs.execute(part, [(name, run)], observer, batch_run.cache_of(batch))
        except InterruptedRunError as error:
            hint = command("resume", batch.path)
            raise InterruptedRunError(error.message, hint, error.exit_code) from error
    if not jobs[0].succeeded:
        failure = runs.failure_of(run)
        if failure.exit_code != UsageError.exit_code:
            failure.hint = command("resume", batch.path)
        raise failure


class _ToldOnce:
    """Passes events on, but not that a run takes over from itself what was just told as done."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._done: set[tuple[str, str]] = set()

    def notify(self, event: RunEvent) -> None:
        pair = (event.job, event.node)
        if event.kind in ("reused", "warning") and pair in self._done:
            return
        self._observer.notify(event)
        if event.kind in ("done", "reused") and event.node:
            self._done.add(pair)


def best_name(path: Path) -> str:
    """The best one's name by the record of a batch directory, "" without one."""
    try:
        with Inside(path).read(CANDIDATES_FILE) as stream:
            data = json_data(limited(stream, JSON_BYTES))
    except (OSError, ValueError):
        return ""
    name = data.get("best", "") if isinstance(data, dict) else ""
    return name if isinstance(name, str) else ""


def document(found: Sequence[Candidate]) -> dict[str, Any]:
    """What candidates.json and --json say."""
    best = best_of(found)
    return {
        "best": best.outcome.name if best else "",
        "candidates": [one.row() for one in found],
    }


def _write(batch: Batch, found: Sequence[Candidate]) -> None:
    """candidates.json, the best one's result, and the page with the scores."""
    inside = Inside(batch.path)
    best = best_of(found)
    with as_output_error(batch.path):
        write_json(batch.path / CANDIDATES_FILE, document(found))
        if best is not None and best.outcome.run is not None:
            _copy_result(inside, best.outcome.run)
    if batch.options.report:
        pages.write_index(
            batch.path,
            [
                (one.outcome.name, one.outcome.subject, one.outcome.run, one.outcome.error)
                for one in sorted(found, key=lambda one: -one.score)
            ],
            {one.outcome.name: _heading(one, one is best) for one in found},
        )


def _heading(one: Candidate, is_best: bool) -> str:
    score = f"agreement {one.score:.3f}" if one.scores else "no score"
    return f"seed {one.seed}: {score}{', the best' if is_best else ''}"


def _copy_result(inside: Inside, run: RunDirectory) -> None:
    """The best one's meshes and pictures; its page shows files beside its run, and stays there."""
    wanted = (set(RESULT_NAMES) | set(run.manifest.exports)) - {REPORT_HTML}
    inside.make_folder(RESULT)
    there = {entry.name for entry in run.inside.entries(RESULT) if entry.is_file}
    for entry in inside.entries(RESULT):
        if entry.is_file and entry.name in RESULT_NAMES and entry.name not in there:
            inside.remove(f"{RESULT}/{entry.name}")
    for name in sorted(there & wanted):
        with run.inside.read(f"{RESULT}/{name}") as source:
            inside.copy(source, f"{RESULT}/{name}", durable=True)
    inside.sync_folder(RESULT)
