"""The shipped profiles on tiny weights: what a run needs to be small, and what it left behind."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devtools.fakes.tools import ROOT, cli_environment, command
from devtools.patience import PATIENCE
from orchestrator.pipeline import layers
from stages.weights.catalogue import FOLDER_VARIABLE

PICTURE = ROOT / "examples" / "robot.png"

SIZES: Mapping[str, object] = {
    "multiview.view_size": 32,
    "reference.resolution": 24,
    "reconstruct.resolution": 24,
    "flux.width": 128,
    "flux.height": 64,
    "mesh_views.size": 64,
    "retexture.raster_size": 128,
    "retexture.render_size": 128,
    "retexture.mask_erode": 1,
    "retexture.color_faces": 3000,
    "retexture.texture_size": 1024,
    "isomer.raster_size": 128,
    "isomer.render_size": 128,
    "isomer.mask_erode": 1,
    "isomer.target_faces": 3000,
    "isomer.texture_size": 1024,
    # What random weights draw is noise all over, and a mesh fused from it has millions of faces.
    "isomer.start": "mesh",
    "caption.max_new_tokens": 8,
    "prompt.max_new_tokens": 8,
}
"""What depends on the number of pixels, cells and tokens."""
STEPS: Mapping[str, object] = {"multiview.steps": 4, "flux.steps": 4, "isomer.stage2_steps": 2}


def sets(profile: str, *values: Mapping[str, object]) -> list[str]:
    """`--set` options for the nodes that a profile has."""
    nodes = layers.load(profile).profile.nodes
    merged = {path: value for one in values for path, value in one.items()}
    chosen = [(p, v) for p, v in merged.items() if p.partition(".")[0] in nodes]
    return [word for path, value in chosen for word in ("--set", f"{path}={json.dumps(value)}")]


def environment(models: Path) -> dict[str, str]:
    return {**cli_environment(), FOLDER_VARIABLE: str(models), "HF_HUB_OFFLINE": "1"}


def orchestrate(models: Path, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The real command line in `folder`, with `models` as the weights."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(models),
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )


@dataclass(frozen=True)
class Finished:
    """A run directory after its end."""

    path: Path

    @property
    def manifest(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.path / "run.json").read_text())
        return document

    @property
    def nodes(self) -> dict[str, Any]:
        nodes: dict[str, Any] = self.manifest["nodes"]
        return nodes

    def params(self, node: str) -> dict[str, Any]:
        """What the stage process was given."""
        parts = self.nodes[node]["key_parts"]
        return {**parts["params"], **parts["first_rung"]["params"]}

    def digests(self) -> dict[str, str]:
        """Of every file of every artifact."""
        return {
            f"{name}/{record['file']}": record["digest"]
            for name, node in self.nodes.items()
            for records in node["artifacts"].values()
            for record in records
        }

    def pids(self) -> dict[str, list[int]]:
        return {name: [row["pid"] for row in node["attempts"]] for name, node in self.nodes.items()}


def run_profile(
    models: Path,
    folder: Path,
    profile: str,
    *options: object,
    subject: Sequence[object] = (PICTURE,),
) -> Finished:
    """`run` on the CPU, below `folder`/outputs; fails the test unless it ends well.

    subject: the words of the command line that say what it is made of
    """
    done = orchestrate(
        models, folder, "run", *subject, "--profile", profile, "--device", "cpu", *options
    )
    assert done.returncode == 0, done.stderr
    result = folder / done.stdout.strip()
    return Finished(next(p for p in (result, *result.parents) if (p / "run.json").is_file()))


def link_models(source: Path, target: Path, but: Iterable[str] = ()) -> Path:
    """A second folder of the same weights, without those named; returns it."""
    target.mkdir()
    for entry in source.iterdir():
        if entry.name not in set(but):
            os.symlink(entry, target / entry.name)
    return target
