"""`stage`: one stage by itself, on a run's real inputs or on files of your own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import answers, parameters
from orchestrator.system.terminal import say, say_json

if TYPE_CHECKING:
    from orchestrator.running.stage_client import StageJob
    from orchestrator.system.gpu import Card


@click.command()
@click.argument("name")
@click.option(
    "--run",
    "run_dir",
    type=parameters.NamedPath(),
    metavar="RUN_DIR",
    help="Take the inputs from this run; NAME is one of its nodes.",
)
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="KEY=PATH",
    help="An input of your own: .npy, picture, mesh or text; several times.",
)
@parameters.output_option("DIR", "Where the outputs go. With --run alone: into the run itself.")
@click.option(
    "--inline",
    is_flag=True,
    help="In this process, so that pdb, breakpoints and profilers work. With --run and no "
    "--output, files go to RUN_DIR/NAME/inline.",
)
@click.option("--set", "sets", multiple=True, metavar="PARAM=VALUE", help="Change a param.")
@click.option(
    "--seed",
    type=parameters.Seed(),
    help="Default: the run's, else 42. Goes with --output or --inline.",
)
@click.option(
    "--dtype",
    metavar="DTYPE",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="float32 (default), float16 or bfloat16. Goes with --output or --inline.",
)
@click.option(
    "--write-job",
    "job_file",
    type=parameters.NamedPath(),
    metavar="FILE",
    help="Start nothing: write the job for `python -m stages.process.child --job FILE`, and print "
    "the command line that runs it.",
)
@parameters.device_options
@parameters.view_options
def stage(
    name: str,
    run_dir: Path | None,
    inputs: tuple[str, ...],
    output: Path | None,
    inline: bool,
    sets: tuple[str, ...],
    seed: int | None,
    dtype: str | None,
    job_file: Path | None,
    device: str,
    no_warm: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    """Run one stage by itself.

    With --run RUN_DIR, NAME is a node of that run: it is computed again from its real inputs, in a
    process of its own; nodes behind it are left for `resume`. With --output the run is not touched.

    With --input KEY=PATH, NAME is a stage (`stages list`) or a node of the sketch profile, and
    --output is where its files go.

    Outside of the run itself (--output, --input, --inline) --device auto is the CPU.
    """
    from orchestrator.commands import single_stage
    from orchestrator.errors import UsageError

    told: list[object] = []
    with answers.errors_as_json(as_json, told):
        stage_name = "" if run_dir else single_stage.find_stage(name)
        if bool(run_dir) == bool(inputs):
            raise UsageError("give either --run RUN_DIR or --input KEY=PATH ... with --output DIR")
        if run_dir is not None and output is None and not inline and job_file is None:
            if seed is not None or dtype is not None:
                raise UsageError(
                    "--seed and --dtype go with --output or --inline",
                    "in the run itself a node keeps the seed and the dtypes of its ladder",
                )
            _redo(name, run_dir, sets, device, no_warm, told, as_json, verbose)
            return
        if verbose:
            raise UsageError(
                "--verbose goes with --run alone", "a stage outside of a run has no plan to show"
            )
        if run_dir is not None:
            job = _job_of_run(name, run_dir, output, sets, seed)
        elif output is not None:
            job = _job_of_files(name, stage_name, inputs, output, sets, seed)
        else:
            raise UsageError("--input needs --output DIR")
        job = replace(job, dtype=dtype or job.dtype, card=_card(device))
        if job_file is not None:
            told_command = single_stage.write_job(job, job_file)
            if as_json:
                say_json({"job": str(job_file.resolve()), "command": told_command})
            else:
                say(told_command)
            return
        written = single_stage.run_job(job, inline, quiet=as_json)
        if as_json:
            say_json({"outputs": written})
        else:
            say("\n".join(written))


def _job_of_run(
    name: str, run_dir: Path, output: Path | None, sets: tuple[str, ...], seed: int | None
) -> StageJob:
    from orchestrator.commands import single_stage
    from orchestrator.record.run_directory import INLINE, RunDirectory
    from orchestrator.running.stage_client import StageJob
    from orchestrator.system.locks import as_output_error

    run = RunDirectory.open(run_dir)
    stage_name, params, inputs = single_stage.inputs_of_run(run, name, sets)
    if output is None:
        output = run_dir / name / INLINE
        with as_output_error(output):
            run.inside.check(f"{name}/{INLINE}")
    return StageJob(
        f"{run_dir}, node {name}",
        stage_name,
        params,
        inputs,
        output.resolve(),
        run.manifest.seed if seed is None else seed,
    )


def _job_of_files(
    name: str,
    stage_name: str,
    inputs: tuple[str, ...],
    output: Path,
    sets: tuple[str, ...],
    seed: int | None,
) -> StageJob:
    from orchestrator.commands import single_stage
    from orchestrator.running.stage_client import StageJob

    params, files = single_stage.inputs_of_files(name, stage_name, inputs, sets)
    return StageJob(
        ", ".join(inputs), stage_name, params, files, output.resolve(), 42 if seed is None else seed
    )


def _card(device: str) -> Card | None:
    """The card of --device. With auto, one stage by itself is given the CPU."""
    from orchestrator.planning.cards import choose_cards
    from orchestrator.system.gpu import GpuMonitor

    if device in ("auto", "cpu"):
        return None
    return choose_cards(device, GpuMonitor())[0]


def _redo(
    name: str,
    run_dir: Path,
    sets: tuple[str, ...],
    device: str,
    no_warm: bool,
    told: list[object],
    as_json: bool,
    verbose: bool,
) -> None:
    from orchestrator.cli.live_view import open_view
    from orchestrator.commands import run as runs
    from orchestrator.commands import single_stage
    from orchestrator.errors import UsageError, command
    from orchestrator.pipeline.graph import Graph
    from orchestrator.planning.options import Options
    from orchestrator.planning.request import prepared_for
    from orchestrator.processes.workspace import open_workspace
    from orchestrator.record.run_directory import RunDirectory
    from orchestrator.weights import needs

    run = RunDirectory.open(run_dir)
    single_stage.require_node(run, name)
    qualified = tuple(f"{name}.{text}" for text in sets)
    prepared = prepared_for(run, Options(sets=qualified, device=device))
    node = prepared.graph.require(name)
    unfinished = [up for up in sorted(node.upstream) if run.manifest.nodes[up].state != "done"]
    if unfinished:
        raise UsageError(
            f"{name} reads from {', '.join(unfinished)}, which is not done",
            command("resume", run_dir),
        )
    needs.require(Graph([node]), bool(prepared.cards))
    view = open_view([node], 1, as_json, verbose)
    with open_workspace(not no_warm) as workspace, run.locked():
        try:
            with view:
                prepared = replace(prepared, workspace=workspace)
                runs.finish_one(prepared, run, view, None, only=name)
        finally:
            told.append(run)
            answers.print_run(run, as_json)
