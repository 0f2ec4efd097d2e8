"""One job that a JSON file describes, without a parent: for debuggers, profilers and `stage`."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import sys
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

from stages.contract import Context, codec
from stages.contract.failures import classify
from stages.process.parent_watch import die_with_parent
from stages.process.stage_runner import OutputFile, StageRunner


def run_job_file(path: Path) -> int:
    """Run the job, and return the exit code.

    Keys: stage, params, inputs (name -> list of paths), output (folder), and optionally device,
    dtype, seed, threads, scratch (a folder), listing (a file that gets the written files as JSON),
    failure (one that gets kind, message and hint of a failure, which are not printed then), parent
    (a pid: this process dies with that one). Prints the written files; exit code 2 when the stage
    finds its input bad, 1 when it fails otherwise.
    """
    job = json.loads(path.read_text())
    if "parent" in job:
        die_with_parent(job["parent"])
    output = Path(job["output"])
    output.mkdir(parents=True, exist_ok=True)
    context = Context(
        job.get("device", "cpu"),
        job.get("dtype", "float32"),
        int(job.get("seed", 42)),
        int(job.get("threads", 2)),
    )
    core = StageRunner(job["stage"], 0)
    inputs = {name: [Path(p) for p in paths] for name, paths in job["inputs"].items()}
    given = contextlib.nullcontext(Path(job["scratch"])) if "scratch" in job else None
    with given or _own_scratch() as scratch:
        try:
            core.load(job.get("params", {}), context)
            result = core.run(inputs, output, scratch, _print_progress)
        except Exception as error:
            failure = classify(error)
            if failure.kind == "internal":
                traceback.print_exc()
            if "failure" in job:
                told = {"kind": failure.kind, "message": failure.message, "hint": failure.hint}
                Path(job["failure"]).write_text(json.dumps(told))
            else:
                print(f"{failure.kind}: {failure.message}", file=sys.stderr)
                if failure.hint and failure.kind != "internal":  # it would point to a log
                    print(f"  -> {failure.hint}", file=sys.stderr)
            return 2 if failure.kind == "bad_input" else 1
        finally:
            core.close()
    for text in (*result.warnings, *result.degraded):
        print(f"warning: {text}", file=sys.stderr)
    written: list[str] = []
    for name, files in result.outputs.items():
        stored = [store_output(output, file) for file in files]
        spec = core.output_spec(name)
        if spec.kind == "image":
            preview = output / f"{name}.png"
            _write(preview, codec.preview_png(codec.read(spec, stored)))
            stored.append(preview)
        print(*stored, sep="\n")
        written += map(str, stored)
    if "listing" in job:
        Path(job["listing"]).write_text(json.dumps(written))
    return 0


@contextlib.contextmanager
def _own_scratch() -> Iterator[Path]:
    """A folder that goes at the end, for a job that was given none."""
    with tempfile.TemporaryDirectory(prefix="kiss3d-job-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def store_output(folder: Path, file: OutputFile) -> Path:
    """Put one output file in its final place (hand-started and inline runs)."""
    final = folder / file.file
    if file.content is None:
        os.replace(folder / file.temp, final)
    else:
        _write(final, file.content)
    return final


def _write(path: Path, content: bytes) -> None:
    """In place of what is there: a link is replaced, not written through."""
    temp = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temp.open("xb") as stream:
            stream.write(content)
        os.replace(temp, path)
    finally:
        temp.unlink(missing_ok=True)


def _print_progress(step: int, total: int, note: str = "") -> None:
    print(f"step {step}/{total} {note}".rstrip(), file=sys.stderr)
