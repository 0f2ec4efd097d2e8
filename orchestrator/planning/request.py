"""What is asked for, checked against this machine: profile, graph, cards, budget."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from orchestrator.errors import (
    KissError,
    RunRecordError,
    UsageError,
)
from orchestrator.pipeline import layers
from orchestrator.pipeline.budget import NO_LIMIT, Budget
from orchestrator.pipeline.graph import GIVEN_MESH, Graph, Node
from orchestrator.pipeline.layers import Settings
from orchestrator.planning import vram_table
from orchestrator.planning.auto_profile import CANDIDATES, choose_profile
from orchestrator.planning.cards import choose_cards
from orchestrator.planning.formats import require_formats, require_mesh
from orchestrator.planning.implied import implied_sets
from orchestrator.planning.options import Options, start_of
from orchestrator.processes.workspace import Workspace
from orchestrator.record.run_directory import RunDirectory
from orchestrator.system import machine
from orchestrator.system.gpu import Card, GpuMonitor
from orchestrator.weights import needs


@dataclass(frozen=True)
class Prepared:
    """A request that has been checked against this machine: everything but the pictures.

    graph   what is asked for, with the rungs that the budget allows
    whole   the profile's, without --until; its nodes are those of `graph` where that has them, so
            that both speak of the same keys
    """

    options: Options
    settings: Settings
    reason: str
    graph: Graph
    whole: Graph
    cards: tuple[Card, ...]
    monitor: GpuMonitor
    workspace: Workspace | None = None
    budget: Budget = NO_LIMIT

    @property
    def seed(self) -> int:
        return self.settings.profile.seed

    @functools.cached_property
    def recorded(self) -> dict[str, Any]:
        """The settings as records have them: one object for all runs of a batch, nobody changes
        it. So are `origins` and `machine`; of a thousand runs they took 17 MB."""
        return self.settings.profile.model_dump(mode="json")

    @functools.cached_property
    def origins(self) -> dict[str, str]:
        """Where each setting comes from, as records have it."""
        return dict(self.settings.sources)

    @functools.cached_property
    def machine(self) -> dict[str, Any]:
        """This machine, as records have it."""
        return machine.describe(self.monitor)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was asked for and has no effect, and what becomes of a mesh, for people."""
        name = self.settings.name
        rungs = (rung for node in self.graph.nodes.values() for rung in node.config.attempts)
        notes = []
        if self.options.target_vram and not any(rung.device == "cuda" for rung in rungs):
            others = " or ".join(f"--profile {other}" for other in CANDIDATES)
            notes.append(
                f"--target-vram has no effect: no stage of profile {name} uses a card; {others} "
                "does"
            )
        if self.options.seed is not None and not self.graph.uses_seed:
            notes.append(
                f"--seed has no effect: no stage of profile {name} draws random numbers, so every "
                "seed gives the same"
            )
        if self.options.start == "mesh" and not self._keeps_the_mesh:
            flux = any(node.config.stage == "flux" for node in self.whole.nodes.values())
            anew = " Flux draws these views anew," if flux else ""
            notes.append(
                f"the given mesh is drawn from four sides,{anew} and a new mesh is made of the "
                "views; --profile retexture keeps its shape, and has Flux draw its colours anew"
            )
        return tuple(notes)

    @property
    def _keeps_the_mesh(self) -> bool:
        """Whether a node goes on with the given mesh itself, not with views of it alone."""
        nodes = self.whole.nodes.values()
        return any(one.artifact == GIVEN_MESH for node in nodes for one in node.inputs.values())


def prepare(options: Options, workspace: Workspace | None = None) -> Prepared:
    """Settle profile, graph and cards. Raises `UsageError`s; starts nothing."""
    monitor = GpuMonitor()
    name = options.profile or layers.base_profile(options.config_file) or "auto"
    reason = "asked for"
    if name == "auto":
        name, reason = choose_profile(monitor, options.start)
    sets = list(options.sets)
    if options.seed is not None:
        sets.append(f"seed={options.seed}")
    from_mesh = options.start == "mesh"
    settings = layers.load(name, options.config_file, sets, options.fast, from_mesh)
    implied = implied_sets(settings.profile, options)
    if implied:
        sets += implied
        settings = layers.load(name, options.config_file, sets, options.fast, from_mesh)
    prepared = _checked(options, settings, reason, monitor, workspace)
    _warm_up(prepared.graph, workspace)
    return prepared


def recorded_settings(run: RunDirectory, sets: Sequence[str] = ()) -> Settings:
    """The settings that a run directory records, with `--set`s on top. Raises `RunRecordError`."""
    manifest = run.manifest
    try:
        return layers.from_record(manifest.profile, manifest.settings, manifest.sources, sets)
    except KissError as error:
        raise RunRecordError(f"{run.path}: {error.message}", error.hint) from error


def prepared_for(
    run: RunDirectory, options: Options, workspace: Workspace | None = None
) -> Prepared:
    """The request that a run directory records, for `resume` and `stage --run`.

    The profile is the one that was effective then, even if its file has changed since.
    """
    manifest = run.manifest
    settings = recorded_settings(run, options.sets)
    options = replace(
        options,
        device=manifest.device if options.device == "auto" else options.device,
        until=manifest.until or None,
        formats=tuple(manifest.formats),
        target_vram=options.target_vram or manifest.target_vram,
        host_ram=options.host_ram or manifest.host_ram,
        keep=manifest.keep,
        start=start_of(manifest.given),
    )
    return _checked(options, settings, manifest.profile_reason, GpuMonitor(), workspace)


def _checked(
    options: Options,
    settings: Settings,
    reason: str,
    monitor: GpuMonitor,
    workspace: Workspace | None,
) -> Prepared:
    """Cards, budget and graph for these settings. Raises `UsageError`s."""
    cards = choose_cards(options.device, monitor)
    budget = vram_table.budget_for(options.target_vram, options.host_ram, cards, monitor)
    whole = Graph.from_profile(settings.profile).on_device(options.device)
    graph = whole.until(options.until) if options.until else whole
    if options.from_node:
        whole.require(options.from_node)
        if options.from_node not in graph.nodes:
            raise UsageError(
                f"--from {options.from_node} lies behind --until {options.until}",
                "nothing would be computed",
            )
    require_formats(options.formats)
    require_mesh(graph, options.formats)
    held = _is_held(options, cards)
    graph = _within(graph, held, budget)
    whole = _as_planned(whole, graph, held, budget)
    return Prepared(options, settings, reason, graph, whole, cards, monitor, workspace, budget)


def _warm_up(graph: Graph, workspace: Workspace | None) -> None:
    """The template imports for the first node while the run directory is being made; for more, and
    the first process might have to wait for a library that it does not need."""
    if workspace is None or workspace.guard is None or workspace.cold_reason:
        return
    first = next(iter(graph.nodes.values()))
    with contextlib.suppress(OSError):  # the first fork will meet it too, and start cold
        workspace.guard.preload(first.preload)


def _is_held(options: Options, cards: Sequence[Card]) -> bool:
    """Whether rungs are held to the budget: to one that was asked for on any machine, since the
    plan may be for another one."""
    return options.device != "cpu" and bool(cards or options.target_vram or options.host_ram)


def _within(graph: Graph, held: bool, budget: Budget) -> Graph:
    """The graph with the rungs that fit into the budget, if they are held to it.

    Raises `UsageError`.
    """
    graph = (
        vram_table.fit(graph, budget, vram_table.table())
        if held
        else vram_table.with_cpu_figures(graph, vram_table.table())
    )
    return needs.with_identities(graph)


def _as_planned(whole: Graph, graph: Graph, held: bool, budget: Budget) -> Graph:
    """`whole` with the nodes of `graph`; others keep all rungs where none fits into the budget."""
    others: list[Node] = []
    for name, node in whole.nodes.items():
        if name in graph.nodes:
            continue
        try:
            others += _within(Graph([node]), held, budget).nodes.values()
        except UsageError:  # nothing that was asked for
            others += needs.with_identities(Graph([node])).nodes.values()
    planned = {**graph.nodes, **{node.name: node for node in others}}
    return Graph(planned[name] for name in whole.nodes)
