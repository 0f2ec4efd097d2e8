"""One stage outside of a run: its job, from a run's real inputs or from files, and running it.

A job is computed by `running/stage_client.py`, or written for `python -m stages.process.child`.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.errors import (
    ConfigError,
    InputFileError,
    KissError,
    OutputError,
    StageFailedError,
    UnknownNameError,
    UsageError,
    brief,
    command,
)
from orchestrator.pipeline import layers
from orchestrator.pipeline.graph import INPUT, Source
from orchestrator.pipeline.profile import NodeConfig
from orchestrator.planning.options import Options
from orchestrator.planning.request import prepared_for, recorded_settings
from orchestrator.processes.environment import child_environment
from orchestrator.record.handover import accept_outputs
from orchestrator.record.run_directory import ATTEMPT_LOG, RunDirectory
from orchestrator.running.session_events import StageFailure
from orchestrator.running.stage_client import (
    JobFailedError,
    StageJob,
    compute_here,
    compute_isolated,
)
from orchestrator.system.atomic_files import next_log, write_json
from orchestrator.system.folders import make_folders
from orchestrator.system.inside import Inside
from orchestrator.system.locks import as_output_error
from orchestrator.system.reading import yaml_data
from orchestrator.system.terminal import say, say_on
from stages.contract import ContractError, codec
from stages.contract.registry import known_stages, stage_class
from stages.process.protocol import Done, ProtocolError

LISTING = "kiss3d-orchestrate stages list"


def require_node(run: RunDirectory, name: str) -> None:
    """Raise `UsageError` unless the run has a node of this name, and has kept what nodes made."""
    recorded = recorded_settings(run).profile.nodes
    nodes = {node: made for node, made in recorded.items() if made.enabled}
    if name in nodes:
        if run.manifest.kept != "all":
            raise UsageError(
                f"what the nodes of {run.path} made {run.why_gone}",
                f"make it anew: {command('run', run.input_path, '--keep', 'all')}",
            )
        return
    same = [node for node, made in nodes.items() if made.stage == name]
    if same or name in known_stages():
        those = f"its nodes in {run.path}: {', '.join(same)}"
        none = f"{run.path} has no node of this stage; its nodes: {', '.join(sorted(nodes))}"
        raise UsageError(
            f'"{name}" is a stage; with --run, NAME is a node of the run', those if same else none
        )
    raise UnknownNameError("node", name, nodes, f"{run.path}")


def inputs_of_run(
    run: RunDirectory, name: str, sets: Sequence[str]
) -> tuple[str, dict[str, Any], dict[str, list[str]]]:
    """Stage, params and input files of a run's node, with `--set PARAM=VALUE` on top.

    Raises `UsageError`: no such node, or one that it reads from is not done.
    """
    require_node(run, name)
    prepared = prepared_for(run, Options(sets=tuple(f"{name}.{text}" for text in sets)))
    node = prepared.graph.require(name)
    return node.config.stage, dict(node.params), _recorded_inputs(run, node.inputs)


def _recorded_inputs(run: RunDirectory, sources: Mapping[str, Source]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for key, source in sources.items():
        if source.node == INPUT:
            if given := run.given_path(source.artifact):
                found[key] = [str(given)]
            continue
        record = run.manifest.nodes.get(source.node)
        if record is None or record.state != "done":
            raise UsageError(
                f"{source.node} is not done in {run.path}", command("resume", run.path)
            )
        if source.artifact in record.artifacts:
            found[key] = [str(p) for p in run.artifact_paths(source.node, source.artifact)]
    return found


def find_stage(name: str) -> str:
    """The stage that NAME is, or that a node of this name has in the sketch profile.

    Raises `UnknownNameError`.
    """
    registered = known_stages()
    if name in registered:
        return name
    nodes = layers.load("sketch").profile.nodes
    if name not in nodes:
        raise UnknownNameError("stage", name, {*registered, *nodes}, listing=LISTING)
    return nodes[name].stage


def inputs_of_files(
    name: str, stage_name: str, inputs: Sequence[str], sets: Sequence[str]
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """Params, and the files of `--input KEY=PATH` by name. Raises `UsageError`s."""
    node = NodeConfig(stage=stage_name, params=_parse_sets(sets))
    known = {spec.name: spec for spec in layers.node_stage(name, node).inputs}
    files: dict[str, list[str]] = {}
    for text in inputs:
        key, equals, path = text.partition("=")
        if not equals:
            raise UsageError(f'--input "{brief(text)}": expected KEY=PATH')
        if key not in known:
            raise UnknownNameError("input", key, known, f"stage {stage_name}")
        if key in files:
            raise UsageError(f"--input {key} was given twice", "an input is one file")
        if not Path(path).is_file():
            what = "is a directory" if Path(path).is_dir() else "does not exist"
            raise InputFileError(f"{path} {what}", f"it was given as the input {key}")
        files[key] = [str(Path(path).resolve())]
    missing = [key for key, spec in known.items() if key not in files and not spec.optional]
    if missing:
        raise UsageError(
            f"stage {stage_name} also needs --input {missing[0]}=PATH",
            f"kiss3d-orchestrate stages describe {stage_name}",
        )
    return layers.params_of(name, node).model_dump(mode="json"), files


def _parse_sets(sets: Sequence[str]) -> dict[str, Any]:
    params = {}
    for text in sets:
        key, equals, raw = text.partition("=")
        if not equals:
            raise ConfigError(f'--set "{brief(text)}": expected PARAM=VALUE')
        try:
            params[key] = yaml_data(raw)
        except ValueError as error:
            raise ConfigError(
                f'--set "{brief(text)}": the value is not valid YAML: {error}'
            ) from error
    return params


def write_job(job: StageJob, file: Path) -> str:
    """Write the job's document, and return the command line that runs it. Raises `OutputError`."""
    document = {
        "stage": job.stage,
        "params": dict(job.params),
        "inputs": {name: list(paths) for name, paths in job.inputs.items()},
        "output": str(job.output),
        "device": "cuda:0" if job.card else "cpu",
        "dtype": job.dtype,
        "seed": job.seed,
        "threads": job.threads,
    }
    try:
        write_json(file, document)
    except OSError as error:
        raise OutputError(f"cannot write {file}: {error.strerror or error}") from error
    environment = {
        "CUDA_VISIBLE_DEVICES": job.card.visible if job.card else "",
        "PYTHONPATH": child_environment()["PYTHONPATH"],
    }
    settings = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    words = [sys.executable, "-P", "-m", "stages.process.child", "--job", str(file.resolve())]
    return " ".join([*settings, shlex.join(words)])


def run_job(job: StageJob, inline: bool, quiet: bool) -> list[str]:
    """Run a job and return the files that it wrote. What the stage prints goes to the terminal.

    inline: in this process, where what it prints goes to stdout unless `quiet`.
    Raises `StageFailedError`, or `OutputError`.
    """
    _require_writable(job.output)
    log = None
    try:
        if inline:
            with contextlib.redirect_stdout(sys.stderr if quiet else sys.stdout):
                done, contents = compute_here(job, _say_progress)
        else:
            log = next_log(job.output, ATTEMPT_LOG)
            done, contents = compute_isolated(job, log, _say_progress, _show)
        written = _put_in_place(job, done, contents)
    except JobFailedError as error:
        raise _failed(job, error.failure, log) from error
    for text in (*done.warnings, *done.degraded):
        say(f"warning: {text}", err=True)
    return written


def _say_progress(step: int, total: int, note: str) -> None:
    say(f"step {step}/{total} {note}".rstrip(), err=True)


def _show(printed: str) -> None:
    with contextlib.suppress(OSError, KissError):  # a screen that is gone ends no stage
        say_on(printed, err=True)


def _put_in_place(job: StageJob, done: Done, contents: bytes) -> list[str]:
    """Accept what the stage handed over, as a run does; the files, previews too."""
    inside, folder = Inside(job.output.parent), job.output.name
    specs = stage_class(job.stage).outputs
    written: list[str] = []
    try:
        with as_output_error(job.output):
            accepted = accept_outputs(inside, folder, specs, done.outputs, contents)
            for spec in specs:
                files = [job.output / record.file for record in accepted.get(spec.name, ())]
                if files and spec.kind == "image":
                    preview = codec.preview_png(codec.read(spec, files))
                    inside.write(f"{folder}/{spec.name}.png", preview, durable=False)
                    files.append(job.output / f"{spec.name}.png")
                written += map(str, files)
    except (ProtocolError, ContractError) as error:
        raise JobFailedError(StageFailure("internal", str(error))) from error
    finally:
        inside.discard_temporaries(folder)
    return written


def _failed(job: StageJob, failure: StageFailure, log: Path | None) -> StageFailedError:
    hint = failure.hint or f"kiss3d-orchestrate stages describe {job.stage}"
    if failure.kind == "internal":
        hint = "the traceback is " + ("in the log" if log else "above")
    error = StageFailedError(job.subject, job.stage, failure.kind, failure.message, hint, log)
    if failure.kind == "bad_input":
        error.exit_code = UsageError.exit_code
    return error


def _require_writable(folder: Path) -> None:
    """Make the folder of the outputs. Raises `OutputError`."""
    with as_output_error(folder):
        make_folders(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
