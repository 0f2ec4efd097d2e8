"""`batch`: stage-major, one bad file fails alone, resumable."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess

import pytest

from devtools.fakes.tools import cli_environment, command, leftovers
from devtools.patience import eventually


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(1, 5):
        (folder / f"p{index}.txt").write_text(f"{index} {index}")
    return folder


def test_every_picture_gets_its_run_and_each_stage_one_process(
    kiss3d, pictures, config_file, tmp_path
):
    counter = tmp_path / "count"
    config = config_file(count_file=str(counter))
    out = tmp_path / "out"
    words = ("--glob", "*.txt", "--config", config, "--output", out)
    # One at a time: as many pictures as there are cores would each have a process of the stage.
    done = kiss3d("batch", pictures, *words, "--set", "runtime.cpu_slots=1")
    assert done.returncode == 0, done.stderr
    for index in range(1, 5):
        assert (
            (out / f"p{index}" / "sink" / "total.txt").read_text().startswith(f"{2 * index + 2} ")
        )
    pids = counter.read_text().split()
    assert len(pids) == 4
    assert len(set(pids)) == 1, "a batch pays each load once"
    assert "4 of 4 good" in done.stderr
    assert leftovers(out) == []


def test_one_bad_file_fails_alone(kiss3d, pictures, config_file, tmp_path):
    (pictures / "p2.txt").write_text("not numbers")
    (pictures / "p3.txt").write_text("")
    out = tmp_path / "out"
    done = kiss3d("batch", pictures, "--glob", "*.txt", "--config", config_file(), "--output", out)
    assert done.returncode == 1
    assert "2 of 4 good" in done.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert {job["name"]: job["state"] for job in summary["jobs"]} == {
        "p1": "done",
        "p2": "failed",
        "p3": "failed",
        "p4": "done",
    }
    with (out / "summary.csv").open() as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}
    assert "not a list of numbers" in rows["p2"]["error"]
    assert "p3.txt: " in done.stderr
    for name in ("p2", "p3"):
        assert rows[name]["hint"], "what a single run says to do next"
        assert f"-> {rows[name]['hint']}" in done.stderr
    assert "p3.txt is empty" in rows["p3"]["error"]
    assert "4 of 4 pictures, 2 failed" in done.stderr, "one of them before any process started"


def test_a_spreadsheet_computes_nothing_of_a_summary(kiss3d, pictures, config_file, tmp_path):
    (pictures / "=1+1.txt").write_text("1 2")
    out = tmp_path / "out"
    options = ("--glob", "=*.txt", "--config", config_file(), "--output", out)
    assert kiss3d("batch", ".", *options, cwd=pictures).returncode == 0
    with (out / "summary.csv").open() as stream:
        (row,) = csv.DictReader(stream)
    assert row["input"] == "'=1+1.txt"
    (job,) = json.loads((out / "summary.json").read_text())["jobs"]
    assert job["input"] == "=1+1.txt"


def test_a_crash_costs_only_the_job_in_flight_one_attempt(kiss3d, pictures, config_file, tmp_path):
    out = tmp_path / "out"
    config = config_file(mode="segfault", flag=str(tmp_path / "flag"))
    done = kiss3d("batch", pictures, "--glob", "*.txt", "--config", config, "--output", out)
    assert done.returncode == 0, done.stderr
    attempts = [
        len(json.loads((out / f"p{i}" / "run.json").read_text())["nodes"]["trouble"]["attempts"])
        for i in range(1, 5)
    ]
    assert sorted(attempts) == [1, 1, 1, 2]


def test_a_job_that_always_crashes_does_not_take_the_others_along(
    kiss3d, pictures, config_file, tmp_path
):
    out = tmp_path / "out"
    config = config_file(mode="segfault", only_for=2.0)
    done = kiss3d("batch", pictures, "--glob", "*.txt", "--config", config, "--output", out)
    assert done.returncode == 1
    summary = json.loads((out / "summary.json").read_text())
    assert [job["state"] for job in summary["jobs"]] == ["done", "failed", "done", "done"]


def test_fail_fast_stops_at_the_first_failure(kiss3d, pictures, config_file, tmp_path):
    out = tmp_path / "out"
    config = config_file(mode="raise", seconds=0.2)
    done = kiss3d(
        "batch", pictures, "--glob", "*.txt", "--config", config, "--output", out, "--fail-fast"
    )
    assert done.returncode == 1
    states = [job["state"] for job in json.loads((out / "summary.json").read_text())["jobs"]]
    assert states.count("failed") == 1
    assert states.count("interrupted") == 3


def test_a_killed_batch_resumes_and_redoes_nothing(kiss3d, pictures, config_file, tmp_path):
    out, counter = tmp_path / "out", tmp_path / "count"
    config = config_file(seconds=0.4, count_file=str(counter))
    process = subprocess.Popen(
        command("batch", pictures, "--glob", "*.txt", "--config", config, "--output", out),
        cwd=tmp_path,
        env=cli_environment(),
        stderr=subprocess.PIPE,
    )
    eventually(lambda: list(out.glob("*/sink/total.txt")))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    records = [json.loads(path.read_text()) for path in out.glob("*/run.json")]
    begun = [record["nodes"] for record in records if record["nodes"]]
    finished = sum(nodes["trouble"]["state"] == "done" for nodes in begun)
    before = len(counter.read_text().split())
    done = kiss3d("resume", out)
    assert done.returncode == 0, done.stderr
    assert "4 of 4 good" in done.stderr
    assert len(counter.read_text().split()) - before == 4 - finished


def test_resume_option_takes_new_pictures_along(kiss3d, pictures, config_file, tmp_path):
    out, config = tmp_path / "out", config_file()
    base = ("batch", pictures, "--glob", "*.txt", "--config", config, "--output", out)
    assert kiss3d(*base).returncode == 0
    again = kiss3d(*base)
    assert again.returncode == 2
    assert "is not empty" in again.stderr
    (pictures / "p5.txt").write_text("5 5")
    more = kiss3d(*base, "--resume")
    assert more.returncode == 0, more.stderr
    assert "5 of 5 good" in more.stderr


def test_same_stems_in_subdirectories_get_names_of_their_own(
    kiss3d, pictures, config_file, tmp_path
):
    (pictures / "more").mkdir()
    (pictures / "more" / "p1.txt").write_text("9")
    out = tmp_path / "out"
    done = kiss3d(
        "batch",
        pictures,
        "--glob",
        "*.txt",
        "--recursive",
        "--config",
        config_file(),
        "--output",
        out,
    )
    assert done.returncode == 0, done.stderr
    assert (out / "more-p1" / "run.json").is_file()
    assert (out / "p1" / "run.json").is_file()


def test_a_request_that_is_refused_leaves_no_directory(kiss3d, pictures, config_file, tmp_path):
    base = ("batch", pictures, "--glob", "*.txt", "--output", tmp_path / "out")
    refused = kiss3d(*base, "--profile", "nope", "--json")
    assert refused.returncode == 2
    assert 'unknown profile "nope"' in json.loads(refused.stdout)["error"]
    assert not (tmp_path / "out").exists()
    done = kiss3d(*base, "--config", config_file())
    assert done.returncode == 0, done.stderr


def test_a_name_that_is_no_utf8_is_a_name(kiss3d, config_file, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    with open(os.fsencode(folder) + b"/caf\xe9.txt", "w") as stream:
        stream.write("1 2")
    out = tmp_path / "out"
    done = kiss3d("batch", folder, "--glob", "*.txt", "--config", config_file(), "-o", out)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    with (out / "summary.csv").open(encoding="utf-8") as stream:
        assert next(csv.DictReader(stream))["input"].endswith("caf\\udce9.txt")
    again = kiss3d("resume", out, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["good"] == 1


def test_nothing_to_do_is_a_usage_error(kiss3d, tmp_path):
    (tmp_path / "none").mkdir()
    done = kiss3d("batch", tmp_path / "none")
    assert done.returncode == 2
    assert "no pictures" in done.stderr


def test_a_batch_does_not_feed_on_what_it_wrote(kiss3d, pictures, config_file):
    asked = ("batch", ".", "--glob", "*.*", "--recursive", "--config", config_file(), "--json")
    inside = {"cwd": pictures}
    for _ in range(3):
        done = json.loads(kiss3d(*asked, **inside).stdout)
        assert (done["good"], done["failed"]) == (4, 0)
    assert done["skipped"] == [{"path": "outputs", "reason": "where results are written"}]
    into = (*asked, "--output", "mine")
    assert json.loads(kiss3d(*into, **inside).stdout)["good"] == 4
    again = json.loads(kiss3d(*into, "--resume", **inside).stdout)
    assert (again["good"], again["failed"]) == (4, 0)
    assert {"path": "mine", "reason": "the directory of a batch"} in again["skipped"]


def test_the_end_tells_what_was_skipped_failed_and_degraded_by_name(
    kiss3d, pictures, config_file, tmp_path
):
    for index in range(5, 17):
        (pictures / f"p{index}.png").write_text("no numbers")
    for index in range(1, 4):
        (pictures / f"p{index}.txt").rename(pictures / f"p{index}.png")
    (pictures / "scan").write_bytes(b"%PDF-1.7")
    config = config_file(
        mode="only_cuda", attempts=[{"device": "cpu", "degraded": "made without a card"}]
    )
    out = tmp_path / "out"
    done = kiss3d("batch", pictures, "--config", config, "--output", out)
    assert done.returncode == 1
    assert "p5.png: source: not a list of numbers" in done.stderr
    assert f"log: {out / 'logs' / 'source-1.log'}" in done.stderr
    assert "failed too: p8.png, p9.png" in done.stderr, "ten are told with their reasons"
    assert "degraded: trouble: made without a card: p1.png, p2.png, p3.png" in done.stderr
    assert "skipped: scan (a PDF document); p4.txt (not a picture)" in done.stderr
    assert "3 of 15 good, 12 failed, 3 degraded, 2 skipped" in done.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert len(summary["jobs"]) == 15
    assert {"path": "scan", "reason": "a PDF document"} in summary["skipped"]
    again = kiss3d("resume", out)
    assert "skipped: scan (a PDF document)" in again.stderr


def test_pictures_of_one_stem_are_told_apart_by_their_files_names(kiss3d, config_file, tmp_path):
    folder = tmp_path / "pictures"
    (folder / "one").mkdir(parents=True)
    (folder / "two").mkdir()
    long = "x" * 90
    for name in ("x.txt", "x.text", f"{long}.txt", "new\nline.txt"):
        (folder / name).write_text("1 2")
    (folder / "x.t").write_text("no numbers")
    out = tmp_path / "out"
    done = kiss3d("batch", folder, "--glob", "*.t*", "--config", config_file(), "-o", out)
    assert done.returncode == 1
    told = [line.split()[0] for line in done.stderr.splitlines() if str(out) in line or "-" in line]
    for name in ("x.txt", "x.text", "x.t", r"new\nline.txt"):
        assert name in told, done.stderr
    assert "x.t: source: not a list of numbers" in done.stderr
    (short,) = (name for name in told if "…" in name)
    assert short.startswith("xxx")
    assert short.endswith("xxx.txt")
    assert len(short) < 60
    jobs = {
        job["name"]: job["input"] for job in json.loads((out / "summary.json").read_text())["jobs"]
    }
    assert jobs["x-2"].endswith("x.text"), "folders keep their names"


def test_subfolders_that_are_not_looked_into_are_told(kiss3d, pictures, config_file, tmp_path):
    for name in ("one", "two", ".hidden", "outputs"):
        (pictures / name).mkdir()
    for index in range(1, 5):
        (pictures / f"p{index}.txt").rename(pictures / f"p{index}.png")
    base = ("batch", pictures, "--config", config_file())
    done = kiss3d(*base, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "skipped: 2 subfolders, --recursive takes them\n" in done.stderr
    assert "4 of 4 good, 2 skipped" in done.stderr
    deep = kiss3d(*base, "--recursive", "-o", tmp_path / "deep")
    assert "--recursive takes" not in deep.stderr
