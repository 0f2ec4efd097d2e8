"""What the parts share: where things are, the command line as a process, and rows of results."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.full_scale.watch import Watch
from orchestrator.pipeline import layers
from orchestrator.record.manifest import Manifest
from orchestrator.record.run_directory import MANIFEST

ROOT = Path(__file__).resolve().parents[2]
ROBOT = ROOT / "examples" / "robot.png"
GIB = float(1 << 30)

TINY_SETS = (
    "flux.width=128", "flux.height=64", "flux.steps=2", "multiview.steps=2",
    "multiview.view_size=64",
    "reference.resolution=16", "reconstruct.resolution=16", "caption.max_new_tokens=8",
    "encode.max_sequence_length=16", "isomer.stage2_steps=2", "isomer.stage2_edges=[0.1,0.06]",
    "isomer.raster_size=64", "isomer.render_size=64", "isomer.subdivisions=0",
)  # fmt: skip
NOISE: Mapping[str, dict[str, Any]] = {
    "caption": {"params": {"max_new_tokens": 100}},
    "isomer": {"reads": {"bundle": "reference_bundle"}},
}
"""What random weights ask for, on top of a profile's nodes. Their captions never end: 100 tokens
are where a real one does. The bundle that Flux makes of noise is noise, on which ISOMER cannot
work; the reference bundle has the same size, and its normals are those of a real surface."""
NO_REFERENCE: Mapping[str, dict[str, Any]] = {
    "isomer": {"params": {"start": "mesh", "stage2_steps": 0}}
}
"""The same where there is no reference bundle: ISOMER colours the coarse mesh and no more."""


@dataclass(frozen=True)
class Bench:
    """models: KISS3D_MODELS. work: where runs go. out: JSON lines. until: time.monotonic().

    image: a picture, or a mesh; text: words with it, or alone where the profile begins with them
    """

    models: Path
    work: Path
    out: Path
    tiny: bool
    image: Path
    until: float
    text: str = ""

    @property
    def subject(self) -> list[object]:
        """What runs are made of, as words of the command line."""
        words: list[object] = ["--text", self.text] if self.text else []
        return [*words, *([] if self.text and self.image == ROBOT else [self.image])]

    @property
    def device(self) -> str:
        return "cpu" if self.tiny else "cuda:0"

    @property
    def left(self) -> float:
        return max(1.0, self.until - time.monotonic())

    def environment(self, *first_on_path: Path) -> dict[str, str]:
        """Of a process of this checkout. first_on_path: packages that hide installed ones."""
        old = os.environ.get("PYTHONPATH", "")
        path = [*map(str, first_on_path), str(ROOT), *([old] if old else [])]
        own = {"KISS3D_MODELS": str(self.models), "PYTHONPATH": os.pathsep.join(path)}
        return {**os.environ, **own, "HF_HUB_OFFLINE": "1"}

    def sets(self, profile: str, more: Sequence[str] = ()) -> list[str]:
        """--set options: the caller's, and the small sizes of a rehearsal."""
        small: Sequence[str] = ()
        if self.tiny:
            nodes = layers.load(profile).profile.nodes
            small = [text for text in TINY_SETS if text.split(".")[0] in nodes]
        return [part for text in (*small, *more) for part in ("--set", text)]

    def layer(self, profile: str) -> Path:
        """The file of what random weights ask for."""
        nodes = layers.load(profile).profile.nodes
        wanted = NOISE if {"reference", "mesh_views"} & nodes.keys() else NO_REFERENCE
        path = self.work / f"random-weights-{profile}.yaml"
        kept = {name: node for name, node in wanted.items() if name in nodes}
        path.write_text(yaml.safe_dump({"nodes": kept}))
        return path

    def record(self, part: str, **values: Any) -> dict[str, Any]:
        """Append a row to the results, and show it."""
        row = {"part": part, "when": round(time.time(), 1), **values}
        with self.out.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
        return row


@dataclass(frozen=True)
class Finished:
    """A process that has ended. code: 0, or what went wrong; -1 for the time limit."""

    code: int
    seconds: float
    stdout: str
    stderr: str
    watch: Watch = field(repr=False)

    @property
    def error(self) -> str:
        return "" if self.code == 0 else f"exit {self.code}: {self.stderr.strip()[-400:]}"


def run_process(
    command: Sequence[object], environment: Mapping[str, str], limit: float
) -> Finished:
    """Run and watch a command; its whole process group ends with it, at the limit at the latest."""
    began = time.monotonic()
    child = subprocess.Popen(
        [str(word) for word in command],
        env=dict(environment),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    watch = Watch(child.pid)
    watch.start()
    late = False
    try:
        out, err = child.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        late = True
        child.terminate()
        try:
            out, err = child.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            out, err = "", ""
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        watch.stop()
    if late:
        return Finished(-1, time.monotonic() - began, out, f"over {limit:.0f} s\n{err}", watch)
    return Finished(child.returncode, time.monotonic() - began, out, err, watch)


def command_line(bench: Bench, *arguments: object, first_on_path: Sequence[Path] = ()) -> Finished:
    """`kiss3d-orchestrate ARGUMENTS`, within the time that is left."""
    command = [sys.executable, "-m", "orchestrator.cli", *arguments]
    return run_process(command, bench.environment(*first_on_path), bench.left)


def manifest(run: Path) -> Manifest:
    return Manifest.model_validate_json((run / MANIFEST).read_text())


def fresh(path: Path) -> Path:
    """A path that does not exist yet: `path`, or with a number behind it."""
    number = 2
    found = path
    while found.exists():
        found = path.with_name(f"{path.name}-{number}")
        number += 1
    found.parent.mkdir(parents=True, exist_ok=True)
    return found


def gib(value: float) -> float | None:
    """For a row: GiB, None for what was not measured."""
    return round(value / GIB, 3) if value >= 0 else None
