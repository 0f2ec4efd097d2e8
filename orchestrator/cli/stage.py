"""`stage`: one stage by itself, on a run's real inputs or on files of your own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import common

if TYPE_CHECKING:
    from orchestrator.artifacts import RunDirectory


@click.command()
@click.argument("name")
@click.option(
    "--run",
    "run_dir",
    type=click.Path(path_type=Path),
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
@common.output_option("DIR", "Where the outputs go. With --run alone: into the run itself.")
@click.option(
    "--inline",
    is_flag=True,
    help="In this process, so that pdb, breakpoints and profilers work. With --run and no "
    "--output, files go to RUN_DIR/NAME/inline.",
)
@click.option("--set", "sets", multiple=True, metavar="PARAM=VALUE", help="Change a param.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    help="Default: the run's, else 42. Goes with --output or --inline.",
)
@click.option(
    "--dtype",
    metavar="DTYPE",
    type=click.Choice(["float32", "float16", "bfloat16"]),
    help="float32 (default), float16 or bfloat16. Goes with --output or --inline.",
)
@common.device_options
@common.view_options
def stage(
    name: str,
    run_dir: Path | None,
    inputs: tuple[str, ...],
    output: Path | None,
    inline: bool,
    sets: tuple[str, ...],
    seed: int | None,
    dtype: str | None,
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
    """
    from orchestrator.errors import UsageError

    told: list[object] = []
    with common.errors_as_json(as_json, told):
        if bool(run_dir) == bool(inputs):
            raise UsageError("give either --run RUN_DIR or --input KEY=PATH ... with --output DIR")
        if run_dir is not None:
            if output is None and not inline:
                if seed is not None or dtype is not None:
                    raise UsageError(
                        "--seed and --dtype go with --output or --inline",
                        "in the run itself a node keeps the seed and the dtypes of its ladder",
                    )
                _redo(name, run_dir, sets, device, no_warm, told, as_json, verbose)
                return
            job = _job_of_run(name, run_dir, sets, seed)
            job["output"] = str(output or run_dir / name / "inline")
        else:
            if output is None:
                raise UsageError("--input needs --output DIR")
            job = _job_of_files(name, inputs, sets, seed)
            job["output"] = str(output)
        if verbose:
            raise UsageError(
                "--verbose goes with --run alone", "a stage outside of a run has no plan to show"
            )
        job["device"] = "cpu" if device in ("auto", "cpu") else "cuda:0"
        job["dtype"] = dtype or "float32"
        _run_job(job, device, inline, as_json)


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
    from dataclasses import replace

    from orchestrator import models, runs
    from orchestrator.artifacts import RunDirectory
    from orchestrator.errors import UsageError
    from orchestrator.graph import Graph
    from orchestrator.request import Options, prepared_for
    from orchestrator.view import open_view
    from orchestrator.workplace import open_workplace

    run = RunDirectory.open(run_dir)
    qualified = tuple(f"{name}.{text}" for text in sets)
    prepared = prepared_for(run, Options(sets=qualified, device=device))
    node = prepared.graph.require(name)
    unfinished = [up for up in sorted(node.upstream) if run.manifest.nodes[up].state != "done"]
    if unfinished:
        raise UsageError(
            f"{name} reads from {', '.join(unfinished)}, which is not done",
            f"kiss3d-orchestrate resume {run_dir}",
        )
    models.require(Graph([node]), bool(prepared.cards))
    view = open_view([name], 1, as_json, verbose)
    with open_workplace(not no_warm) as workplace, run.locked():
        try:
            with view:
                prepared = replace(prepared, workplace=workplace)
                runs.finish_one(prepared, run, view, None, only=name)
        finally:
            told.append(run)
            common.print_run(run, as_json)


def _job_of_run(
    name: str, run_dir: Path, sets: tuple[str, ...], seed: int | None
) -> dict[str, Any]:
    from orchestrator.artifacts import RunDirectory
    from orchestrator.request import Options, prepared_for

    run = RunDirectory.open(run_dir)
    qualified = tuple(f"{name}.{text}" for text in sets)
    prepared = prepared_for(run, Options(sets=qualified))
    node = prepared.graph.require(name)
    return {
        "stage": node.config.stage,
        "params": dict(node.params),
        "inputs": _recorded_inputs(run, node.inputs),
        "seed": run.manifest.seed if seed is None else seed,
    }


def _recorded_inputs(run: RunDirectory, sources: Any) -> dict[str, list[str]]:
    from orchestrator.errors import UsageError
    from orchestrator.graph import INPUT

    found: dict[str, list[str]] = {}
    for key, source in sources.items():
        if source.node == INPUT:
            found[key] = [str(run.input_path)]
            continue
        record = run.manifest.nodes.get(source.node)
        if record is None or record.state != "done":
            raise UsageError(
                f"{source.node} is not done in {run.path}", f"kiss3d-orchestrate resume {run.path}"
            )
        if source.artifact in record.artifacts:
            found[key] = [str(p) for p in run.artifact_paths(source.node, source.artifact)]
    return found


def _job_of_files(
    name: str, inputs: tuple[str, ...], sets: tuple[str, ...], seed: int | None
) -> dict[str, Any]:
    from orchestrator import config
    from orchestrator.errors import InputFileError, UnknownNameError, UsageError
    from stages.registry import known_stages

    registered = known_stages()
    stage_name = name
    if name not in registered:
        nodes = config.load("sketch").profile.nodes
        if name not in nodes:
            raise UnknownNameError("stage", name, {*registered, *nodes})
        stage_name = nodes[name].stage
    node = config.NodeConfig(stage=stage_name, params=_parse_sets(sets))
    cls = config.node_stage(name, node)
    known = {spec.name: spec for spec in cls.inputs}
    files: dict[str, list[str]] = {}
    for text in inputs:
        key, equals, path = text.partition("=")
        if not equals:
            raise UsageError(f'--input "{text}": expected KEY=PATH')
        if key not in known:
            raise UnknownNameError("input", key, known, f"stage {stage_name}")
        if key in files:
            raise UsageError(f"--input {key} was given twice", "an input is one file")
        if not Path(path).is_file():
            raise InputFileError(f"{path} does not exist", f"it was given as the input {key}")
        files[key] = [str(Path(path).resolve())]
    missing = [key for key, spec in known.items() if key not in files and not spec.optional]
    if missing:
        raise UsageError(
            f"stage {stage_name} also needs --input {missing[0]}=PATH",
            f"kiss3d-orchestrate stages describe {stage_name}",
        )
    return {
        "stage": stage_name,
        "params": config.params_of(name, node).model_dump(mode="json"),
        "inputs": files,
        "seed": 42 if seed is None else seed,
    }


def _parse_sets(sets: tuple[str, ...]) -> dict[str, Any]:
    import yaml

    from orchestrator.errors import ConfigError

    params = {}
    for text in sets:
        key, equals, raw = text.partition("=")
        if not equals:
            raise ConfigError(f'--set "{text}": expected PARAM=VALUE')
        try:
            params[key] = yaml.safe_load(raw)
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f'--set "{text}": the value is not valid YAML') from error
    return params


def _run_job(job: dict[str, Any], device: str, inline: bool, as_json: bool) -> None:
    """Through `stages.host`, the same program that the parent's children run.

    Its stdout lists the files that were written. With --json that is the document's to say, and
    what the stage prints goes to stderr.
    """
    import contextlib

    from orchestrator.files import private_folder
    from orchestrator.gpu import GpuMonitor
    from orchestrator.request import choose_cards
    from orchestrator.warm import child_environment

    visible = ""
    if job["device"] != "cpu":
        visible = choose_cards(device, GpuMonitor())[0].visible
    _require_writable(Path(job["output"]))
    with private_folder() as folder:
        file, listing = folder / "job.json", folder / "outputs.json"
        file.write_text(json.dumps({**job, "listing": str(listing)}))
        if inline:
            from stages.host import run_job_file

            os.environ["CUDA_VISIBLE_DEVICES"] = visible
            with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
                code = run_job_file(file)
        else:
            code = subprocess.run(
                [sys.executable, "-P", "-m", "stages.host", "--job", str(file)],
                env={**child_environment(), "CUDA_VISIBLE_DEVICES": visible},
                stdout=sys.stderr if as_json else None,
                check=False,
            ).returncode
        if code:
            _fail(job["stage"], code)
        if as_json:
            common.print_json({"outputs": json.loads(listing.read_text())})


def _require_writable(folder: Path) -> None:
    """Make the folder of the outputs. Raises `OutputError`."""
    from orchestrator.errors import OutputError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"cannot write to {folder}: {error.strerror or error}", "choose another --output"
        ) from error


def _fail(stage_name: str, code: int) -> None:
    from orchestrator.errors import RunFailedError, UsageError
    from orchestrator.session import describe_exit

    error = RunFailedError(f"stage {stage_name} failed ({describe_exit(code)})")
    if code == UsageError.exit_code:  # its input is at fault, as the stage has said by now
        error.exit_code = UsageError.exit_code
    raise error
