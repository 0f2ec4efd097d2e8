"""`--keep result`: what is left of a run, what it still can do, and what it says it cannot."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from orchestrator.commands import batch
from orchestrator.record.run_directory import RunDirectory


@pytest.fixture
def casting(tmp_path: Path) -> Callable[..., Path]:
    """A profile that ends in a mesh file; `source` writes a line to `count` whenever it runs."""

    def make(**trouble: object) -> Path:
        nodes = {
            "source": {"stage": "fake.source", "params": {"count_file": str(tmp_path / "count")}},
            "trouble": {"stage": "fake.trouble", "params": trouble},
            "cast": {"stage": "fake.cast"},
        }
        path = tmp_path / "cast.yaml"
        path.write_text(yaml.safe_dump({"profile": "none", "nodes": nodes}))
        return path

    return make


def computed(tmp_path: Path) -> int:
    """How often the first stage ran."""
    count = tmp_path / "count"
    return len(count.read_text().split()) if count.exists() else 0


def files_of(run: Path) -> set[str]:
    return {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}


@pytest.fixture
def kept(kiss3d, picture, casting, tmp_path) -> Path:
    """A run of which only the result was kept."""
    config, out = casting(), tmp_path / "outputs" / "out"
    done = kiss3d("run", picture, "--config", config, "--output", out, "--keep", "result")
    assert done.returncode == 0, done.stderr
    assert "kept: the result, not what it was made of" in done.stderr
    return out


def test_only_the_result_is_left_with_its_page(kept):
    here = {"run.json", "events.jsonl", "input.img", "result/mesh.glb", "result/report.html"}
    assert files_of(kept) - {"result/thumbnail.jpg"} == here
    manifest = RunDirectory.open(kept).manifest
    assert (manifest.state, manifest.kept) == ("done", "result")
    assert {node.state for node in manifest.nodes.values()} == {"done"}
    assert list((kept.parent / ".cache").glob("*.json")) == [], "nothing can be taken from it"


def test_resume_says_that_it_is_done_and_computes_nothing(kept, kiss3d, tmp_path):
    before = (kept / "result" / "mesh.glb").stat().st_ino
    again = kiss3d("resume", kept, "--json")
    assert again.returncode == 0, again.stderr
    told = json.loads(again.stdout)
    assert (told["state"], told["kept"]) == ("done", "result")
    assert computed(tmp_path) == 1
    assert (kept / "result" / "mesh.glb").stat().st_ino == before, "it is left as it is"


def test_the_same_request_again_is_done_as_well(kept, kiss3d, picture, casting, tmp_path):
    plan = kiss3d("plan", picture, "--config", casting(), "--output", kept, "--json")
    assert {row["cached"] for row in json.loads(plan.stdout)["nodes"]} == {True}
    again = kiss3d("run", picture, "--config", casting(), "--output", kept)
    assert again.returncode == 0, again.stderr
    assert computed(tmp_path) == 1


def test_from_a_node_on_says_what_is_missing(kept, kiss3d, picture, casting, tmp_path):
    config = casting()
    refused = kiss3d("run", picture, "--config", config, "--output", kept, "--from", "cast")
    assert refused.returncode == 2
    assert "source, trouble would have to run too" in refused.stderr
    assert "was not kept (--keep result)" in refused.stderr
    refused = kiss3d("stage", "cast", "--run", kept)
    assert refused.returncode == 2
    assert "was not kept (--keep result)" in refused.stderr
    assert computed(tmp_path) == 1
    assert (kept / "result" / "mesh.glb").is_file()


def test_another_setting_or_a_lost_mesh_begins_anew(kept, kiss3d, tmp_path):
    changed = kiss3d("resume", kept, "--set", "trouble.seconds=0.05")
    assert changed.returncode == 0, changed.stderr
    assert computed(tmp_path) == 2
    assert "cast/glb.glb" not in files_of(kept), "it is a run that keeps its result"
    (kept / "result" / "mesh.glb").unlink()
    assert kiss3d("resume", kept).returncode == 0
    assert computed(tmp_path) == 3
    assert (kept / "result" / "mesh.glb").is_file()
    (kept / "result" / "mesh.glb").write_bytes(b"")
    assert kiss3d("resume", kept).returncode == 0
    assert computed(tmp_path) == 4
    assert (kept / "result" / "mesh.glb").stat().st_size


def test_a_run_that_takes_everything_from_another_has_its_own_result(
    kiss3d, picture, casting, tmp_path
):
    request = ("run", picture, "--config", casting(), "--output")
    whole, lean = (tmp_path / "outputs" / name for name in ("whole", "lean"))
    assert kiss3d(*request, whole).returncode == 0
    done = kiss3d(*request, lean, "--keep", "result")
    assert done.returncode == 0, done.stderr
    assert computed(tmp_path) == 1
    assert not list(lean.rglob("*.npy"))
    meshes = [(run / "result" / "mesh.glb").read_bytes() for run in (whole, lean)]
    assert meshes[0] == meshes[1]
    ends = [line for line in (lean / "events.jsonl").read_text().splitlines() if '"end"' in line]
    assert len(ends) == 1, "its books are closed once"
    assert RunDirectory.open(whole).intact("source") == "", "the other one is as it was"


def test_what_died_while_it_let_go_loses_the_rest_when_it_is_resumed(kept, kiss3d):
    rest = kept / "source" / "numbers.npy"
    rest.parent.mkdir()
    rest.write_bytes(b"left")
    assert kiss3d("resume", kept).returncode == 0
    assert not rest.exists()


@pytest.mark.parametrize("how", ["failed", "no mesh"])
def test_a_run_that_failed_or_has_no_mesh_keeps_everything(kiss3d, picture, casting, tmp_path, how):
    config = casting(mode="raise" if how == "failed" else "ok")
    until = ["--until", "trouble"] if how == "no mesh" else []
    out = tmp_path / "out"
    kiss3d("run", picture, "--config", config, "--output", out, "--keep", "result", *until)
    assert "source/numbers.npy" in files_of(out)
    assert RunDirectory.open(out).manifest.kept == "all"


def test_a_batch_keeps_results_unless_it_is_told_to_keep_all(kiss3d, casting, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(3):
        (pictures / f"{number}.txt").write_text(f"{number} 2 3")
    common = ("batch", pictures, "--glob", "*.txt", "--config", casting(), "--output")
    done = kiss3d(*common, tmp_path / "lean")
    assert done.returncode == 0, done.stderr
    assert "kept: results alone" in done.stderr
    assert not list((tmp_path / "lean").rglob("*.npy"))
    assert len(list((tmp_path / "lean").glob("*/result/mesh.glb"))) == 3
    assert kiss3d("resume", tmp_path / "lean").returncode == 0
    assert computed(tmp_path) == 3
    done = kiss3d(*common, tmp_path / "whole", "--keep", "all")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "whole").rglob("*.npy"))) == 6


def by_stage(tmp_path: Path) -> dict[str, object]:
    """Params of a stage that loads weights: without any, pictures go through one by one, and no
    batch is cut into parts."""
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(b"weights")
    return {"needs": [str(weights)]}


@pytest.mark.parametrize("keep", ["result", "all"])
def test_a_long_batch_goes_part_by_part(keep, casting, tmp_path, monkeypatch):
    """So that only some of its pictures take the space of a whole run at a time, or, where that is
    kept, room in memory."""
    from orchestrator.cli.commands import cli

    most, whole = 0, batch.runs.execute

    def execute(prepared, now, *rest, **more):
        nonlocal most
        jobs = whole(prepared, now, *rest, **more)
        most = max(most, len(now))
        left = list((tmp_path / "out").rglob("*.npy"))
        assert bool(left) == (keep == "all"), "this part has let go"
        return jobs

    monkeypatch.setattr(batch, {"result": "AT_ONCE", "all": "AT_ONCE_KEPT"}[keep], 2)
    monkeypatch.setattr(batch.runs, "execute", execute)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(5):
        (pictures / f"{number}.txt").write_text(f"{number} 2 3")
    request = ["batch", pictures, "--glob", "*.txt", "--config", casting(**by_stage(tmp_path))]
    request += ["--keep", keep, "--output", tmp_path / "out"]
    cli.main([*map(str, request)], standalone_mode=False)
    assert most == 2
    assert computed(tmp_path) == 5
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["good"] == 5


def test_after_a_failure_that_ends_a_batch_no_later_part_begins(casting, tmp_path, monkeypatch):
    from orchestrator.cli.commands import cli

    monkeypatch.setattr(batch, "AT_ONCE", 1)
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(3):
        (pictures / f"{number}.txt").write_text(f"{number} 2 3")
    request = ["batch", pictures, "--glob", "*.txt", "--fail-fast", "--config"]
    config = casting(mode="raise", only_for=0.0, **by_stage(tmp_path))
    request += [config, "--output", tmp_path / "out"]
    with pytest.raises(SystemExit):
        cli.main([*map(str, request)], standalone_mode=False)
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())["jobs"]
    assert [row["state"] for row in rows] == ["failed", "interrupted", "interrupted"]
    assert computed(tmp_path) == 1


def test_of_many_pictures_the_glb_alone_is_kept_of_each_mesh(casting, tmp_path, monkeypatch):
    from orchestrator.cli.commands import cli
    from orchestrator.commands import carry_out

    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(2):
        (pictures / f"{number}.txt").write_text(f"{number} 2 3")
    request = ["batch", pictures, "--glob", "*.txt", "--config", casting(), "--output"]
    for many, kept in ((2, "result"), (1, "mesh")):
        monkeypatch.setattr(carry_out, "MANY", many)
        cli.main([*map(str, request), str(tmp_path / kept)], standalone_mode=False)
        assert RunDirectory.open(tmp_path / kept / "0").manifest.kept == kept
