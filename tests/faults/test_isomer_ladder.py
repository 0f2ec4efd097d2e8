"""However pytorch3d fails, ISOMER ends in the mesh that the CPU makes, and the record says why.

pytorch3d draws on CPUs too, so its rung is driven here without a card; what runs is the real
ladder, one new process a rung.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from devtools.fakes import broken_pytorch3d
from devtools.fakes.broken_pytorch3d import Fault
from devtools.fakes.parts import Silent
from devtools.fakes.tools import leftovers
from orchestrator.commands import open_run
from orchestrator.commands import run as runs
from orchestrator.commands.subject import subject_of
from orchestrator.pipeline import layers
from orchestrator.planning import options, request
from orchestrator.system.gpu import Card
from stages.contract import Mesh
from stages.evaluation import compare_surfaces

PARAMS = {
    "stage2_steps": 2, "stage2_edges": [0.1, 0.06], "subdivisions": 0, "raster_size": 64,
    "render_size": 64, "texture": "none",
}  # fmt: skip
PYTORCH3D = {"device": "cpu", "tries": 1, "params": {"rasterizer": "pytorch3d"}}
OURS = {"device": "cpu", "tries": 1, "params": {"rasterizer": "torch"}}
CPU = {"device": "cpu"}


@dataclass(frozen=True)
class Case:
    """A fault, whether it comes in the real work only, the kind and the words that are recorded."""

    fault: Fault
    late: bool
    kind: str
    says: str


CASES = [
    Case("import_error", False, "missing_dependency", "libcudart.so.12"),
    Case("no_gpu_support", False, "gpu_unavailable", "Not compiled with GPU support"),
    Case("cuda_error", True, "gpu_fault", "illegal memory access"),
    Case("segfault", False, "crashed", "SIGSEGV"),
    Case("segfault", True, "crashed", "SIGSEGV"),
]


def ladder_file(folder: Path, attempts: list[dict[str, Any]]) -> Path:
    profile = {
        "profile": "none",
        "nodes": {
            "egg": {"stage": "fake.egg"},
            "isomer": {"stage": "isomer", "params": PARAMS, "attempts": attempts},
        },
    }
    path = folder / f"ladder-{len(attempts)}.yaml"
    path.write_text(yaml.safe_dump(profile))
    return path


def record(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "run.json").read_text())["nodes"]["isomer"])


def mesh(out: Path) -> Mesh:
    folder = out / "isomer"
    return Mesh(np.load(folder / "mesh.vertices.npy"), np.load(folder / "mesh.faces.npy"))


@pytest.fixture(scope="module")
def cpu_mesh(tmp_path_factory: pytest.TempPathFactory) -> Mesh:
    """What the CPU rung makes of the egg."""
    folder = tmp_path_factory.mktemp("cpu")
    picture = folder / "in.txt"
    picture.write_text("1 2 3")
    prepared = request.prepare(options.Options(config_file=ladder_file(folder, [CPU])))
    run = open_run.open_or_create(prepared, subject_of([picture]), folder / "out")
    (done,) = runs.execute(prepared, [("egg", run)], Silent(), None, folder)
    assert done.succeeded, done.error
    return mesh(folder / "out")


def assert_same(found: Mesh, expected: Mesh) -> None:
    assert len(expected.faces) > 500
    assert compare_surfaces(found, expected, samples=5000).chamfer_l1 <= 1e-3


def _params() -> list[Any]:
    """Quick are those whose like no other quick test has: the two below have import_error and
    cuda_error, and test_stage_faults.py has stages that crash while they load."""
    quick = {("no_gpu_support", False), ("segfault", True)}
    return [
        pytest.param(
            case,
            id=f"{case.fault}{'-late' if case.late else ''}",
            marks=[] if (case.fault, case.late) in quick else [pytest.mark.slow],
        )
        for case in CASES
    ]


@pytest.mark.parametrize("case", _params())
def test_whatever_is_wrong_with_pytorch3d_the_cpu_makes_its_mesh(
    case: Case,
    kiss3d: Callable[..., Any],
    picture: Path,
    cpu_mesh: Mesh,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The stage tries its rasteriser on one face while it loads.
    package = broken_pytorch3d.write(tmp_path / "site", case.fault, harmless=int(case.late))
    monkeypatch.setenv("PYTHONPATH", broken_pytorch3d.first_on_path(package))
    out = tmp_path / "out"
    done = kiss3d(
        "run", picture, "--config", ladder_file(tmp_path, [PYTORCH3D, CPU]), "--output", out
    )
    assert done.returncode == 0, done.stderr
    found = record(out)
    first, second = found["attempts"]
    assert (first["outcome"], second["outcome"]) == (case.kind, "done")
    assert case.says in first["message"]
    assert first["move"].startswith("next rung")
    assert first["pid"] != second["pid"]
    assert found["degraded"] == "", "the CPU's mesh is as good"
    assert_same(mesh(out), cpu_mesh)
    assert leftovers(out) == []


def test_the_rung_between_needs_no_pytorch3d_and_makes_the_same_mesh(
    kiss3d: Callable[..., Any],
    picture: Path,
    cpu_mesh: Mesh,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    package = broken_pytorch3d.write(tmp_path / "site", "cuda_error", harmless=1)
    monkeypatch.setenv("PYTHONPATH", broken_pytorch3d.first_on_path(package))
    out = tmp_path / "out"
    ladder = ladder_file(tmp_path, [PYTORCH3D, OURS, CPU])
    done = kiss3d("run", picture, "--config", ladder, "--output", out)
    assert done.returncode == 0, done.stderr
    assert [row["outcome"] for row in record(out)["attempts"]] == ["gpu_fault", "done"]
    assert_same(mesh(out), cpu_mesh)


def test_with_a_card_that_torch_cannot_use_all_rungs_are_walked_down(
    picture: Path, cpu_mesh: Mesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ladder as it stands in a profile, on an invented card."""
    package = broken_pytorch3d.write(tmp_path / "site", "import_error")
    monkeypatch.setenv("PYTHONPATH", broken_pytorch3d.first_on_path(package))
    ladder = [{**rung, "device": "cuda"} for rung in (PYTORCH3D, OURS)]
    prepared = request.prepare(options.Options(config_file=ladder_file(tmp_path, [*ladder, CPU])))
    prepared = replace(prepared, cards=(Card(-1, "card-0", "card 0"),))
    run = open_run.open_or_create(prepared, subject_of([picture]), tmp_path / "out")
    (done,) = runs.execute(prepared, [("egg", run)], Silent(), None, tmp_path)
    assert done.succeeded, done.error
    rows = run.manifest.nodes["isomer"].attempts
    assert [(row.device, row.outcome) for row in rows] == [
        ("card 0", "missing_dependency"),
        ("card 0", "gpu_unavailable"),
        ("cpu", "done"),
    ]
    assert "libcudart.so.12" in rows[0].message
    assert "no CUDA device" in rows[1].message
    assert run.manifest.nodes["isomer"].degraded == ""
    assert_same(mesh(tmp_path / "out"), cpu_mesh)


@pytest.mark.parametrize("name", ["original", "full_12gb", "optimized_12gb", "multiview_only"])
def test_the_shipped_profiles_have_this_ladder_and_call_no_rung_worse(name: str) -> None:
    rungs = layers.load(name).profile.nodes["isomer"].attempts
    assert [(rung.device, rung.params["rasterizer"]) for rung in rungs] == [
        ("cuda", "torch"),
        ("cuda", "pytorch3d"),
        ("cpu", "cpu"),
    ]
    assert [rung.tries for rung in rungs[:2]] == [1, 1], "below them waits a mesh as good"
    assert {rung.degraded for rung in rungs} == {""}
