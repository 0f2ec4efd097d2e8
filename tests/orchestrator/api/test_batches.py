"""Batches, plans and candidates from Python, and arguments that are none."""

from __future__ import annotations

import json

import pytest

import kiss3d
from devtools.fakes.tools import ROOT

ROBOT = ROOT / "examples" / "robot.png"


def test_a_batch_names_the_pictures_that_failed(config_file, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in (1, 2):
        (pictures / f"{number}.txt").write_text(f"{number} 2 3")
    config = config_file(mode="raise", only_for=1.0)
    made = kiss3d.batch(pictures, glob="*.txt", config=config, output=tmp_path / "out", keep="all")
    assert list(made.failed) == ["1"]
    assert made.runs["2"].state == "done"
    assert "out" in repr(made)
    assert 'srcdoc="' in made._repr_html_()
    again = kiss3d.resume(tmp_path / "out", settings={"trouble": {"mode": "ok"}})
    assert isinstance(again, kiss3d.Batch)
    assert again.failed == {}


def test_shards_are_put_together(tmp_path, config_file):
    pictures, out = tmp_path / "pictures", tmp_path / "out"
    pictures.mkdir()
    for index in range(1, 4):
        (pictures / f"p{index}.txt").write_text(f"{index}")

    def shard(which: str) -> kiss3d.Batch:
        return kiss3d.batch(pictures, glob="*.txt", config=config_file(), output=out, shard=which)

    first = shard("0/4")
    assert first.path == out / "shard-0-of-4"
    assert (list(first.runs), first.failed) == (["p1"], {})
    half = kiss3d.merge(out)
    assert [row["state"] for row in half.outcomes] == ["done", "missing", "missing"]
    assert list(half.failed) == ["p2", "p3"]
    shard("1/4"), shard("2/4")
    assert list(shard("3/4").runs) == [], "no part in the list"
    merged = kiss3d.merge(out)
    assert (list(merged.runs), merged.failed) == (["p1", "p2", "p3"], {})
    assert "3 done" in merged._repr_html_()
    with pytest.raises(kiss3d.UsageError, match="counted from 0"):
        shard("4/4")
    with pytest.raises(kiss3d.UsageError, match="is no text"):
        kiss3d.batch(pictures, output=out, shard=(0, 4))
    with pytest.raises(kiss3d.RunRecordError, match="no shards"):
        kiss3d.merge(pictures)


def test_a_plan_starts_nothing_and_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = kiss3d.plan(ROBOT, profile="sketch")
    assert [row.node for row in plan.rows][-1] == "isomer"
    assert plan.refusal is None
    assert plan.seconds is not None
    assert list(tmp_path.iterdir()) == []
    full = kiss3d.plan(ROBOT, profile="full_12gb", target_vram=12)
    assert 5 << 30 < full.vram <= 12 << 30
    assert isinstance(full.refusal, kiss3d.UsageError)


def test_settings_are_sets_nested_or_not():
    made = kiss3d.options(settings={"a.b": 1, "isomer": {"x": [1, "ü"], "y": None}, "seed": 3})
    assert made.sets == ("a.b=1", 'isomer.x=[1, "ü"]', "isomer.y=null", "seed=3")
    with pytest.raises(kiss3d.UsageError):
        kiss3d.options(settings={1: 2})  # type: ignore[dict-item]
    with pytest.raises(kiss3d.UsageError, match="stl"):
        kiss3d.options(formats="stl")


def test_the_doctor_answers_with_rows():
    rows = kiss3d.doctor(profile="sketch")
    assert {"python", "disk"} <= {row.name for row in rows}
    assert json.dumps([row.verdict for row in rows])


@pytest.mark.parametrize("given", [b"a.png", ["a.png"], 7, ""])
def test_what_is_no_path_is_refused_in_words(given):
    for call in (kiss3d.run, kiss3d.start, kiss3d.plan, kiss3d.batch, kiss3d.resume):
        with pytest.raises(kiss3d.UsageError, match="path"):
            call(given)
    with pytest.raises(kiss3d.UsageError, match="back"):
        kiss3d.plan(ROBOT, back=given)
    with pytest.raises(kiss3d.UsageError, match="text"):
        kiss3d.plan(text=["a", "vase"])


def test_an_argument_that_there_is_not_names_what_is_meant():
    with pytest.raises(kiss3d.UsageError, match="candidates") as caught:
        kiss3d.run(ROBOT, candidates=3)
    assert "kiss3d.candidates(" in caught.value.hint
    with pytest.raises(kiss3d.UsageError, match="sead") as caught:
        kiss3d.plan(ROBOT, sead=3)
    assert '"seed"' in caught.value.hint


def test_several_pictures_need_to_be_told_apart():
    with pytest.raises(kiss3d.UsageError, match="which sides") as caught:
        kiss3d.plan(ROBOT, ROBOT)
    assert 'views="auto"' in caught.value.hint
    with pytest.raises(kiss3d.UsageError, match="views"):
        kiss3d.plan(ROBOT, ROBOT, views="car")
    made = kiss3d.plan(ROBOT, ROBOT, views="auto", profile="sketch")
    assert made.prepared.options.views == "auto"


def test_a_plan_is_printed_as_a_table():
    told = str(kiss3d.plan(ROBOT, profile="sketch"))
    assert told.startswith("profile sketch")
    header, *rows = told.splitlines()[1:]
    assert header.startswith("node")
    assert any(row.startswith("isomer") for row in rows)


def test_candidates_are_refused_where_all_would_be_alike(tmp_path):
    with pytest.raises(kiss3d.UsageError, match="alike"):
        kiss3d.candidates(ROBOT, count=2, profile="sketch", output=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for count in (1, 2.0, True):
        with pytest.raises(kiss3d.UsageError, match="count"):
            kiss3d.candidates(ROBOT, count=count)


@pytest.mark.slow
def test_candidates_are_a_batch_that_names_its_best(tmp_path):
    import yaml

    config = tmp_path / "quick.yaml"
    nodes = {
        "seeded": {"stage": "fake.seeded"},
        "multiview": {"reads": {"image": "recoloured"}, "params": {"grid": 64}},
        "reconstruct": {"params": {"resolution": 32}},
        "isomer": {"params": {"stage2_steps": 0, "texture": "none"}},
    }
    config.write_text(yaml.safe_dump({"profile": "sketch", "nodes": nodes}))
    made = kiss3d.candidates(ROBOT, count=3, config=config, seed=7, output=tmp_path / "out")
    assert list(made.runs) == ["seed-7", "seed-8", "seed-9"]
    assert made.best is not None
    assert made.best.path == tmp_path / "out" / "seed-9"
    assert (made.path / "result" / "mesh.glb").is_file()
