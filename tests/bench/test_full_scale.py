"""The full-scale bench: its random checkpoints are real files, and its rows fit the VRAM table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from bench.full_scale import checkpoints, vram, writer
from bench.full_scale.certificate import Request, extrapolated
from bench.full_scale.sizes import TINY
from orchestrator.planning.vram_table import VramRow
from orchestrator.record.manifest import AttemptRow, InputRecord, Manifest, NodeRecord

CPU = torch.device("cpu")
GIB = 1 << 30


@pytest.fixture
def maker() -> checkpoints.Maker:
    return checkpoints.Maker(TINY, CPU)


def test_random_files_hold_what_was_asked_for(tmp_path: Path) -> None:
    tensors = {
        "a.weight": writer.Tensor((300, 200), 0.5, zero_rows=(slice(0, 2), slice(290, None))),
        "norm.weight": writer.Tensor((7,), 0.0, 1.0),
    }
    table = torch.arange(6.0).view(2, 3)
    writer.write(tmp_path, "model", tensors, torch.bfloat16, CPU, constants={"table": table})
    found = load_file(tmp_path / "model.safetensors")
    assert found["a.weight"].dtype == torch.bfloat16
    assert float(found["a.weight"][2:290].float().std()) == pytest.approx(0.5, rel=0.02)
    assert not found["a.weight"][:2].any()
    assert not found["a.weight"][290:].any()
    assert torch.equal(found["norm.weight"].float(), torch.ones(7))
    assert torch.equal(found["table"], table)


def test_rows_that_are_made_in_pieces_are_zero_where_they_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CHUNK", 30)
    tensors = {"a": writer.Tensor((10, 10), 1.0, zero_rows=(slice(0, 4), slice(8, None)))}
    writer.write(tmp_path, "model", tensors, torch.float32, CPU)
    zero = (load_file(tmp_path / "model.safetensors")["a"] == 0).all(dim=1)
    assert zero.tolist() == [True] * 4 + [False] * 4 + [True] * 2


def test_shards_and_their_index_cover_every_tensor(tmp_path: Path) -> None:
    tensors = {f"layer{i}.weight": writer.Tensor((64, 64), 1.0) for i in range(5)}
    writer.write(tmp_path, "model", tensors, torch.float16, CPU, shard_bytes=17_000)
    where = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(where.values())) == 3
    for name, file in where.items():
        assert load_file(tmp_path / file)[name].shape == (64, 64)


def test_an_interrupted_model_is_made_again_and_a_finished_one_is_kept(
    tmp_path: Path, maker: checkpoints.Maker
) -> None:
    home, more = tmp_path / "home", tmp_path / "more"
    half = more / ".building-flux1-dev-vae" / "flux1-dev-vae"
    half.mkdir(parents=True)
    places = checkpoints.place(["flux1-dev-vae"], [home, more], published=False)
    assert places == {"flux1-dev-vae": home}
    assert not half.exists()
    assert checkpoints.build("flux1-dev-vae", more, home, maker) > 0
    assert (home / "flux1-dev-vae").is_symlink()
    assert (home / "flux1-dev-vae" / "vae" / "config.json").is_file()
    assert checkpoints.place(["flux1-dev-vae"], [home, more], published=False) == {}


def test_what_fits_nowhere_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 10 * GIB})
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(OSError, match=r"flux1-dev-transformer, 22\.2 GiB"):
        checkpoints.place(checkpoints.RECIPES, [tmp_path], published=True)


def test_runs_of_one_rung_under_several_targets_become_one_row(tmp_path: Path) -> None:
    runs = []
    for number, peak in enumerate((5.0, 7.001)):
        attempt = AttemptRow(
            rung=0,
            device="card",
            dtype="bfloat16",
            outcome="done",
            params={"placement": "streamed"},
            timings={"import": 1.0, "load": 4.0, "compute": 40.0},
            vram={"peak": int(peak * GIB)},
        )
        record = NodeRecord(state="done", stage="flux", attempts=[attempt])
        document = Manifest(
            given={"input_image": InputRecord(source="a", file="a", size=1, digest="d")},
            settings={"nodes": {"flux": {"stage": "flux", "params": {"steps": 20}}}},
            nodes={"flux": record},
        )
        runs.append(tmp_path / str(number))
        runs[-1].mkdir()
        (runs[-1] / "run.json").write_text(document.model_dump_json())
    results = tmp_path / "results.jsonl"
    results.write_text(json.dumps({"run": str(runs[1]), "node": "flux", "host_gib": 2.5}))
    (row,) = [VramRow(**row) for row in yaml.safe_load(vram.rows(runs, results, "a card"))]
    assert (row.peak_gib, row.least_gib, row.host_gib) == (7.01, 5.0, 2.5)
    assert (row.load_seconds, row.step_seconds, row.steps) == (5.0, 2.0, "steps")
    assert row.when["placement"] == "streamed"
    assert row.when["width"] == 2048


def test_fewer_steps_are_extrapolated_by_evaluations() -> None:
    rows = [{"node": "flux", "compute_s": 10.0}, {"node": "isomer", "compute_s": 7.0}]
    request = Request("full_12gb", 12.0, 0.0, {"flux": 3})
    # 20 steps at strength 0.95 are 37 evaluations, 3 steps are 5.
    assert extrapolated(100.0, request, rows) == pytest.approx(90.0 + 10.0 * 37 / 5)
    once = Request("full_12gb", 12.0, 0.0, {"flux": 3}, ("flux.sampler=heun_pec",))
    assert extrapolated(100.0, once, rows) == pytest.approx(90.0 + 10.0 * 19 / 3)
