"""One stage outside of a run: its job, from a run's real inputs or from files, and running it.

The job is what `python -m stages.process.child --job FILE` takes; the same program that a run's
processes are runs it, in a process of its own or in this one.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

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
from orchestrator.processes import guard
from orchestrator.processes.environment import child_environment
from orchestrator.processes.workspace import guarded
from orchestrator.record.run_directory import RunDirectory
from orchestrator.system.atomic_files import next_log, write_json
from orchestrator.system.exit_codes import describe_exit
from orchestrator.system.folders import make_folders
from orchestrator.system.locks import as_output_error
from orchestrator.system.private_folders import private_folder
from orchestrator.system.reading import yaml_data
from orchestrator.system.terminal import say_on
from stages.contract.registry import known_stages

LISTING = "kiss3d-orchestrate stages list"


@dataclass(frozen=True)
class StageJob:
    """A stage, and what it is to do.

    subject  whose job it is, for people: a picture, a run and its node
    inputs   input name -> absolute paths of its files
    output   folder of the files that it writes; absolute
    visible  of the card that it may use (CUDA_VISIBLE_DEVICES); "": the CPU computes
    """

    subject: str
    stage: str
    params: Mapping[str, Any]
    inputs: Mapping[str, Sequence[str]]
    output: Path
    seed: int
    dtype: str = "float32"
    visible: str = ""

    def document(self) -> dict[str, Any]:
        """The JSON document of `stages.process.child --job`."""
        return {
            "stage": self.stage,
            "params": dict(self.params),
            "inputs": {name: list(paths) for name, paths in self.inputs.items()},
            "output": str(self.output),
            "device": "cuda:0" if self.visible else "cpu",
            "dtype": self.dtype,
            "seed": self.seed,
        }


def require_node(run: RunDirectory, name: str) -> None:
    """Raise `UsageError` unless the run has a node of this name."""
    nodes = recorded_settings(run).profile.nodes
    if name in nodes:
        return
    same = [node for node, made in nodes.items() if made.stage == name]
    if same:
        raise UsageError(
            f'"{name}" is a stage; with --run, NAME is a node of the run',
            f"its nodes in {run.path}: {', '.join(same)}",
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
    try:
        write_json(file, job.document())
    except OSError as error:
        raise OutputError(f"cannot write {file}: {error.strerror or error}") from error
    environment = {
        "CUDA_VISIBLE_DEVICES": job.visible,
        "PYTHONPATH": child_environment()["PYTHONPATH"],
    }
    settings = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    return " ".join([*settings, shlex.join(_host(file.resolve()))])


def _host(file: Path) -> list[str]:
    return [sys.executable, "-P", "-m", "stages.process.child", "--job", str(file)]


def run_job(job: StageJob, inline: bool, quiet: bool) -> list[str]:
    """Run a job and return the files that it wrote. What the stage prints goes to the terminal.

    inline: in this process. quiet: what would go to stdout goes to stderr.
    Raises `StageFailedError`, or `OutputError` before anything starts.
    """
    _require_writable(job.output)
    with private_folder() as folder:
        listing, failure, file = (folder / f"{n}.json" for n in ("listing", "failure", "job"))
        scratch = folder / "scratch"  # in ours, which goes even if that process is killed
        scratch.mkdir()
        places = {"listing": listing, "failure": failure, "scratch": scratch}
        document = {**job.document(), **{name: str(path) for name, path in places.items()}}
        file.write_text(json.dumps(document))
        if inline:
            from stages.process.single_job import run_job_file

            os.environ["CUDA_VISIBLE_DEVICES"] = job.visible
            with contextlib.redirect_stdout(sys.stderr if quiet else sys.stdout):
                code = run_job_file(file)
            log = None
        else:
            if not guard.works_here():  # a guard sees to it there
                document["parent"] = os.getpid()
            file.write_text(json.dumps(document))
            log = next_log(job.output, "attempt-")
            code = _run_logged(file, job.visible, log, quiet)
        if code:
            raise _failed(job, code, failure, log)
        written: list[str] = json.loads(listing.read_text())
        return written


def _run_logged(file: Path, visible: str, log: Path, quiet: bool) -> int:
    """The exit code of the job's process, whose stderr goes to ours and to a log as well.

    Helpers which the stage started end with it.
    """
    environment = {"CUDA_VISIBLE_DEVICES": visible}
    with log.open("wb", buffering=0) as stream, contextlib.ExitStack() as behind:
        if guard.works_here():
            pipes = subprocess.PIPE, subprocess.PIPE
            with guarded(file.parent, False, *pipes, keep_folder=True) as keeper:
                for copier in _start_copying(keeper.stdout, keeper.stderr, stream, quiet):
                    behind.callback(copier.join, timeout=2.0)
                return keeper.run(_host(file), environment)
        process = subprocess.Popen(
            _host(file),
            env={**child_environment(), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        try:
            for copier in _start_copying(process.stdout, process.stderr, stream, quiet):
                behind.callback(copier.join, timeout=2.0)
            return process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError, AttributeError):
                os.killpg(process.pid, signal.SIGKILL)  # Windows has no groups
            process.kill()
            process.wait()


def _start_copying(
    stdout: IO[bytes] | None, stderr: IO[bytes] | None, log: IO[bytes], quiet: bool
) -> list[threading.Thread]:
    assert stdout is not None, "asked for with subprocess.PIPE"
    assert stderr is not None, "asked for with subprocess.PIPE"
    copiers = [
        threading.Thread(target=_copy, args=(stderr, True, log), daemon=True),
        threading.Thread(target=_copy, args=(stdout, quiet), daemon=True),
    ]
    for copier in copiers:
        copier.start()
    return copiers


def _copy(source: IO[bytes], err: bool, log: IO[bytes] | None = None) -> None:
    """Show what the stage prints, and keep it in the log as it is."""
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    with source, contextlib.suppress(ValueError):  # the log was closed
        while chunk := source.read(1 << 16):
            with contextlib.suppress(OSError):  # a full disk must not stop the stage
                if log is not None:
                    log.write(chunk)
            with contextlib.suppress(OSError, KissError):
                say_on(decoder.decode(chunk), err=err)


def _failed(job: StageJob, code: int, failure: Path, log: Path | None) -> StageFailedError:
    told = {"kind": "crashed", "message": f"the process ended with {describe_exit(code)}"}
    if failure.is_file():
        told = json.loads(failure.read_text())
    if told["kind"] == "internal":
        hint = "the traceback is " + ("in the log" if log else "above")
    else:
        hint = told.get("hint", "") or f"kiss3d-orchestrate stages describe {job.stage}"
    error = StageFailedError(job.subject, job.stage, told["kind"], told["message"], hint, log)
    if told["kind"] == "bad_input":
        error.exit_code = UsageError.exit_code
    return error


def _require_writable(folder: Path) -> None:
    """Make the folder of the outputs. Raises `OutputError`."""
    with as_output_error(folder):
        make_folders(folder)
        with tempfile.TemporaryFile(dir=folder):
            pass
