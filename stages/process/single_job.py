"""One job that a JSON file describes, without a parent: what `stage --write-job` writes, for
debuggers and profilers."""

from __future__ import annotations

import json
import os
import secrets
import sys
import tempfile
import traceback
from pathlib import Path

from stages.contract import Context, codec
from stages.contract.failures import classify
from stages.process.stage_runner import OutputFile, StageRunner


def run_job_file(path: Path) -> int:
    """Run the job, and return the exit code.

    Keys: stage, params, inputs (name -> list of paths), output (folder), and optionally device,
    dtype, seed and threads. Prints the written files; exit code 2 when the stage finds its input
    bad, 1 when it fails otherwise.
    """
    job = json.loads(path.read_text())
    output = Path(job["output"])
    output.mkdir(parents=True, exist_ok=True)
    context = Context(
        job.get("device", "cpu"),
        job.get("dtype", "float32"),
        threads=int(job.get("threads", 2)),
    )
    runner = StageRunner(job["stage"], 0)
    inputs = {name: [Path(p) for p in paths] for name, paths in job["inputs"].items()}
    with tempfile.TemporaryDirectory(prefix="kiss3d-job-", ignore_cleanup_errors=True) as scratch:
        try:
            runner.load(job.get("params", {}), context)
            seed = int(job.get("seed", 42))
            result = runner.run(inputs, output, Path(scratch), seed, _print_progress)
        except Exception as error:
            failure = classify(error)
            if failure.kind == "internal":
                traceback.print_exc()
            print(f"{failure.kind}: {failure.message}", file=sys.stderr)
            if failure.hint and failure.kind != "internal":  # it would point to a log
                print(f"  -> {failure.hint}", file=sys.stderr)
            return 2 if failure.kind == "bad_input" else 1
        finally:
            runner.close()
    for text in (*result.warnings, *result.degraded):
        print(f"warning: {text}", file=sys.stderr)
    for name, files in result.outputs.items():
        stored = [store_output(output, file) for file in files]
        spec = runner.output_spec(name)
        if spec.kind == "image":
            preview = output / f"{name}.png"
            _write(preview, codec.preview_png(codec.read(spec, stored)))
            stored.append(preview)
        print(*stored, sep="\n")
    return 0


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
