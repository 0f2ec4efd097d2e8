"""`runs` and `clean`: what was made is listed as it is, and goes when it is told to."""

from __future__ import annotations

import json
import re
import subprocess

import pytest
from filelock import FileLock

from devtools.fakes.tools import made_run


def test_runs_list_and_show(kiss3d, picture, config_file):
    assert kiss3d("run", picture, "--config", config_file(mode="raise")).returncode == 1
    listed = json.loads(kiss3d("runs", "list", "--json").stdout)
    assert [run["state"] for run in listed] == ["failed"]
    shown = kiss3d("runs", "show", listed[0]["run"]).stdout
    assert "RuntimeError: deliberate" in shown
    assert "the ladder ends here" in shown


def test_the_time_of_a_run_is_that_of_all_its_goes(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "outputs" / "run"
    config = config_file(seconds=1.0, mode="raise", flag=str(tmp_path / "flag"))
    failed = kiss3d("run", picture, "--config", config, "--output", out)
    assert failed.returncode == 1, failed.stderr
    assert kiss3d("resume", out).returncode == 0
    assert kiss3d("stage", "sink", "--run", out).returncode == 0
    [row] = json.loads(kiss3d("runs", "list", "--json").stdout)
    attempts = json.loads((out / "run.json").read_text())["nodes"]["trouble"]["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == ["internal", "done"]
    assert row["stage_seconds"] > 1.0, "the last go, which is no second, is not all of it"
    shown = kiss3d("runs", "list").stdout.splitlines()
    assert "stages s" in shown[0]
    # Each is rounded by itself: 1.1501 is 1.150 as JSON and 1.2 in the table.
    assert float(shown[2].split()[-1]) == pytest.approx(row["stage_seconds"], abs=0.06)


@pytest.mark.parametrize("damage", ["cut", "gone", "newer"])
def test_a_run_without_a_usable_record_is_listed_with_what_to_do(
    damage, kiss3d, picture, config_file, tmp_path
):
    outputs = tmp_path / "outputs"
    made_run(kiss3d, picture, config_file(), outputs / "good")
    made_run(kiss3d, picture, config_file(), outputs / "bad")
    record = outputs / "bad" / "run.json"
    if damage == "cut":
        record.write_text(record.read_text()[:100])
    elif damage == "gone":
        record.unlink()
    else:
        record.write_text(json.dumps({**json.loads(record.read_text()), "format": 99}))
    state = "newer" if damage == "newer" else "damaged"
    remedy = "upgrade" if damage == "newer" else "kiss3d-orchestrate run outputs/bad/input.img"
    plain = kiss3d("runs", "list")
    assert plain.returncode == 0, plain.stderr
    assert re.search(rf"^outputs/bad +{state} ", plain.stdout, re.MULTILINE)
    assert remedy in plain.stderr
    good, bad = json.loads(kiss3d("runs", "list", "--json").stdout)
    assert (good["state"], bad["state"]) == ("done", state)
    assert bad["run"] == str(outputs / "bad")
    assert remedy in bad["hint"]
    cleaned = kiss3d("clean", "--yes")
    assert "left outputs/bad" in cleaned.stderr
    assert (outputs / "bad").is_dir()
    assert not (outputs / "good").exists()


def test_before_the_first_run_there_is_nothing_to_list_or_clean(kiss3d):
    assert json.loads(kiss3d("runs", "list", "--json").stdout) == []
    done = kiss3d("clean")
    assert (done.returncode, done.stdout) == (0, "nothing to clean\n")
    for words in (("runs", "list"), ("clean",)):
        refused = kiss3d(*words, "nowhere")
        assert refused.returncode == 2
        assert "nowhere does not exist" in refused.stderr


def test_a_folder_without_runs_says_so(kiss3d, tmp_path):
    done = kiss3d("runs", "list", tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "no runs below" in done.stderr


def killed_run(kiss3d, picture, config_file, tmp_path):
    """A run directory as SIGKILL leaves it: the state "running" and a lock that nobody holds."""
    out = tmp_path / "outputs" / "killed"
    made_run(kiss3d, picture, config_file(), out)
    manifest = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps({**manifest, "state": "running"}))
    (out / ".lock").touch()
    return out


def test_a_killed_run_is_listed_as_interrupted(kiss3d, picture, config_file, tmp_path):
    out = killed_run(kiss3d, picture, config_file, tmp_path)
    assert [run["state"] for run in json.loads(kiss3d("runs", "list", "--json").stdout)] == [
        "interrupted"
    ]
    assert ": interrupted, profile" in kiss3d("runs", "show", out).stdout


def test_a_live_run_is_listed_as_running(kiss3d, picture, config_file, tmp_path):
    out = killed_run(kiss3d, picture, config_file, tmp_path)
    with FileLock(out / ".lock"):
        listed = json.loads(kiss3d("runs", "list", "--json").stdout)
        assert (out / ".lock").exists()
    assert [run["state"] for run in listed] == ["running"]


def test_clean_removes_only_runs(kiss3d, picture, config_file, tmp_path):
    assert kiss3d("run", picture, "--config", config_file()).returncode == 0
    keep = tmp_path / "outputs" / "notes"
    keep.mkdir()
    (keep / "keep.txt").touch()
    done = kiss3d("clean", "--yes")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "outputs").glob("in-*")) == []
    assert (keep / "keep.txt").exists()


def test_clean_goes_on_behind_a_run_that_it_cannot_remove(kiss3d, picture, config_file, tmp_path):
    config, outputs = config_file(), tmp_path / "outputs"
    for name in ("a", "b", "c"):
        made_run(kiss3d, picture, config, outputs / name)
    (outputs / "a" / ".lock").mkdir()
    with FileLock(outputs / "b" / ".lock"):
        done = kiss3d("clean", "--yes")
    assert done.returncode == 1
    assert "left outputs/a: cannot write to" in done.stderr
    assert "left outputs/b: another process is working" in done.stderr
    assert sorted(path.name for path in outputs.iterdir()) == [".cache", "a", "b"]
    assert (outputs / "a" / "run.json").exists()


def test_clean_takes_a_batch_and_stale_cache_entries_along(kiss3d, config_file, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in (1, 2):
        (pictures / f"p{number}.txt").write_text(f"{number}")
    made = kiss3d("batch", pictures, "--glob", "*.txt", "--config", config_file())
    assert made.returncode == 0, made.stderr
    outputs = tmp_path / "outputs"
    assert list(outputs.glob(".cache/*.json"))
    shown = kiss3d("clean", input="n\n").stdout
    assert "batch.json, summaries and logs" in shown
    assert "cache entries" in shown
    done = kiss3d("clean", "--yes")
    assert done.returncode == 0, done.stderr
    assert list(outputs.iterdir()) == []


def test_clean_keeps_a_batch_that_holds_anything_else(kiss3d, config_file, tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "p.txt").write_text("1")
    out = tmp_path / "outputs" / "mine"
    made = kiss3d("batch", pictures, "--glob", "*.txt", "--config", config_file(), "-o", out)
    assert made.returncode == 0, made.stderr
    (out / "notes.txt").touch()
    assert kiss3d("clean", "--yes").returncode == 0
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def test_clean_says_what_it_removed_and_how_much_that_was(kiss3d, picture, config_file, tmp_path):
    outputs = tmp_path / "outputs"
    made_run(kiss3d, picture, config_file(), outputs / "a")
    size = sum(path.stat().st_size for path in outputs.rglob("*") if path.is_file())
    part = kiss3d("clean", "--yes", "--intermediate").stdout
    assert "removed intermediate artifacts of 1 run: " in part
    assert kiss3d("clean", "--yes", "--intermediate").stdout == "nothing to clean\n"
    made_run(kiss3d, picture, config_file(), outputs / "b")
    done = kiss3d("clean", "--yes", "--json")
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert told["removed"] == [str(outputs / "a"), str(outputs / "b")]
    assert size < told["freed_bytes"] < 3 * size
    assert told["left"] == []


def test_clean_that_leaves_a_run_in_use_counts_only_what_went(
    kiss3d, picture, config_file, tmp_path
):
    outputs = tmp_path / "outputs"
    for name in ("a", "b"):
        made_run(kiss3d, picture, config_file(), outputs / name)
    with FileLock(outputs / "b" / ".lock"):
        told = json.loads(kiss3d("clean", "--yes", "--json").stdout)
    assert told["removed"] == [str(outputs / "a")]
    assert [(item["path"], item["in_use"]) for item in told["left"]] == [(str(outputs / "b"), True)]


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_clean_without_anybody_to_ask_removes_nothing(
    options, kiss3d, picture, config_file, tmp_path
):
    out = tmp_path / "outputs" / "a"
    made_run(kiss3d, picture, config_file(), out)
    done = kiss3d("clean", *options, stdin=subprocess.DEVNULL)
    assert done.returncode == 2
    assert "nothing was removed" in done.stderr
    assert "add --yes" in done.stderr
    assert (out / "run.json").is_file()


def test_clean_asks_first(kiss3d, picture, config_file, tmp_path):
    assert kiss3d("run", picture, "--config", config_file()).returncode == 0
    assert "nothing was removed" in kiss3d("clean", input="n\n").stdout
    assert len(list((tmp_path / "outputs").glob("in-*"))) == 1


FOREIGN = (
    "notes.txt",
    "scene.blend",
    ".hidden",
    "run.json.bak",
    "attempt-1.log",
    "sink/total.txt.orig",
    "sink/notes.md",
    "sink/.film.part",
    "sink/inline/mine.npy",
    "trouble/render/frame-1.png",
    "result/edited.glb",
    "result/textures/wood.png",
    "mine/run/notes.txt",
)


def put(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")


def files_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


def test_clean_leaves_what_it_did_not_make_and_says_so(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "outputs" / "mine"
    made_run(kiss3d, picture, config_file(), out)
    assert kiss3d("stage", "sink", "--run", out, "--inline").returncode == 0
    put(out, FOREIGN)
    part = kiss3d("clean", "--yes", "--intermediate")
    assert part.returncode == 0, part.stderr
    assert {"run.json", "events.jsonl", "input.img"} <= set(files_in(out))
    assert "sink/total.txt" not in files_in(out)
    assert set(FOREIGN) <= set(files_in(out))
    assert "left outputs/mine: not made by this program: sink/.film.part" in part.stderr
    assert kiss3d("resume", out).returncode == 0
    (out / "source" / ".numbers.npy.1a2b3c4d.part").touch()
    (out / "source" / "attempt-7.log").touch()
    done = kiss3d("clean", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    assert files_in(out) == sorted(FOREIGN)
    [left] = json.loads(done.stdout)["left"]
    assert left["in_use"] is False
    assert set(left["foreign"]) >= {"notes.txt", "sink/notes.md", "trouble/render", "mine"}
    assert "left outputs/mine: not made by this program: " in done.stderr


def test_clean_takes_along_what_an_earlier_profile_and_a_killed_run_left(
    kiss3d, picture, config_file, tmp_path
):
    """Files of a node that the run no longer has, and of one that was never recorded as done."""
    out = tmp_path / "outputs" / "mine"
    made_run(kiss3d, picture, config_file(), out)
    other = tmp_path / "other.yaml"
    nodes = (
        "{first: {stage: fake.source}, trouble: {stage: fake.trouble}, sink: {stage: fake.sink}}"
    )
    other.write_text(f"profile: none\nnodes: {nodes}\n")
    made_run(kiss3d, picture, other, out)
    assert (out / "source" / "numbers.npy").exists()
    record = json.loads((out / "run.json").read_text())
    record["nodes"]["sink"].update(artifacts={}, state="running", key="")
    (out / "run.json").write_text(json.dumps(record))
    done = kiss3d("clean", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "outputs").exists() or list((tmp_path / "outputs").iterdir()) == []


def test_clean_leaves_foreign_files_of_a_batch_and_of_the_cache_index(
    kiss3d, config_file, tmp_path
):
    put(tmp_path / "pictures", ["p.txt"])
    (tmp_path / "pictures" / "p.txt").write_text("1")
    out = tmp_path / "outputs" / "mine"
    config = config_file()
    made = kiss3d("batch", tmp_path / "pictures", "--glob", "*.txt", "--config", config, "-o", out)
    assert made.returncode == 0, made.stderr
    foreign = ["logs/server.log", "logs/mine/x", "summary.xlsx", "p/notes.txt"]
    put(out, foreign)
    index = tmp_path / "outputs" / ".cache"
    assert index.is_dir()
    (index / "mine.json").write_text(json.dumps({"run": "gone"}))
    done = kiss3d("clean", "--yes")
    assert done.returncode == 0, done.stderr
    assert files_in(out) == sorted(foreign)
    assert files_in(index) == ["mine.json"]
    assert "left outputs/mine: not made by this program: logs, p, summary.xlsx" in done.stderr


def test_taking_the_lock_leaves_other_programs_partial_files(
    kiss3d, picture, config_file, tmp_path
):
    out = tmp_path / "outputs" / "mine"
    made_run(kiss3d, picture, config_file(), out)
    foreign = [".film.part", "sink/.film.part", "deep/er/.scene.blend.1a2b3c4d.part"]
    put(out, foreign)
    (out / "sink" / ".total.txt.1a2b3c4d.part").touch()
    assert kiss3d("resume", out).returncode == 0
    assert {*foreign} <= set(files_in(out))
    assert not (out / "sink" / ".total.txt.1a2b3c4d.part").exists()
