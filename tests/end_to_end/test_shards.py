"""`batch --shard I/N` and `batch merge`: many machines, one folder, the results of one machine."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys

import pytest

from devtools.fakes.tools import cli_environment, command, leftovers
from devtools.patience import eventually


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for index in range(1, 7):
        (folder / f"p{index}.txt").write_text(f"{index} {index}")
    (folder / "more" / "p1.txt").write_text("9 9")
    return folder


@pytest.fixture
def asked(pictures, config_file, tmp_path):
    """The command of a shard, but for which one."""
    words = ("batch", pictures, "--glob", "*.txt", "--recursive", "--config")
    return lambda config=None: (*words, config or config_file(), "--output", tmp_path / "out")


def totals(folder):
    return {path.parts[-3]: path.read_text() for path in folder.glob("**/sink/total.txt")}


def test_shards_together_make_what_one_machine_makes(kiss3d, asked, config_file, tmp_path):
    out, whole = tmp_path / "out", tmp_path / "whole"
    for index in range(3):
        done = kiss3d(*asked(), "--shard", f"{index}/3")
        assert done.returncode == 0, done.stderr
    one = kiss3d(*asked()[:-1], whole)
    assert one.returncode == 0, one.stderr
    runs = [path.parent for path in out.glob("shard-*/*/run.json")]
    names = [path.name for path in runs]
    assert sorted(names) == sorted(set(names)), "disjoint"
    assert totals(out) == totals(whole), "complete, and each name stands for the same picture"
    assert "more-p1" in names
    assert sorted(path.name for path in out.glob("shard-*")) == [
        f"shard-{i}-of-3" for i in (0, 1, 2)
    ]
    assert {len(list(out.glob(f"shard-{i}-of-3/*/run.json"))) for i in range(3)} <= {2, 3}

    merged = kiss3d("batch", "merge", out)
    assert merged.returncode == 0, merged.stderr
    assert "7 of 7 good" in merged.stderr
    ours, theirs = (json.loads((folder / "summary.json").read_text()) for folder in (out, whole))
    for key in ("good", "failed", "skipped"):
        assert ours[key] == theirs[key]
    told = ("name", "input", "state", "error", "degraded", "warnings")
    assert [[job[key] for key in told] for job in ours["jobs"]] == [
        [job[key] for key in told] for job in theirs["jobs"]
    ]
    assert all(os.path.isdir(job["run"]) for job in ours["jobs"])
    assert list(ours["runs"]) == list(theirs["runs"])
    with (out / "summary.csv").open() as stream:
        assert [row["state"] for row in csv.DictReader(stream)] == ["done"] * 7
    page = (out / "index.html").read_text()
    assert "shard-0-of-3/p1/result/" in page
    assert "7 results" in page
    before = (out / "index.html").read_bytes()
    assert kiss3d("batch", "merge", out).returncode == 0
    assert (out / "index.html").read_bytes() == before, "it may be repeated"
    (out / "index.html").unlink()
    opened = kiss3d("open", out, "--no-browser", "--json")
    assert json.loads(opened.stdout)["report"] == str(out / "index.html")
    assert "shard-0-of-3/p1/result/" in (out / "index.html").read_text()
    assert leftovers(out) == []


def test_all_shards_may_begin_at_once(asked, tmp_path):
    out = tmp_path / "out"
    processes = [
        subprocess.Popen(
            command(*asked(), "--shard", f"{index}/4"),
            cwd=tmp_path,
            env=cli_environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(4)
    ]
    ends = [(process.communicate()[1], process.returncode) for process in processes]
    assert [code for _, code in ends] == [0] * 4, ends
    assert len(list(out.glob("shard-*/*/run.json"))) == 7
    assert leftovers(out) == []


def test_a_killed_shard_is_gone_on_with_by_the_same_command(kiss3d, asked, config_file, tmp_path):
    out, counter, flag = tmp_path / "out", tmp_path / "count", tmp_path / "flag"
    config = config_file(mode="sleep", only_for=4.0, flag=str(flag), count_file=str(counter))
    shard = (*asked(config), "--shard", "1/2", "--keep", "all")
    process = subprocess.Popen(
        command(*shard), cwd=tmp_path, env=cli_environment(), stderr=subprocess.PIPE
    )
    eventually(flag.exists)
    working = kiss3d("batch", "merge", out, "--json")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert working.returncode == 1
    told = json.loads(working.stdout)
    assert [row["state"] for row in told["shards"]] == ["missing", "running"]
    assert {job["state"] for job in told["jobs"]} <= {"missing", "running", "done"}
    finished = sum(
        json.loads(path.read_text())["nodes"]["trouble"]["state"] == "done"
        for path in out.glob("*/*/run.json")
    )
    before = len(counter.read_text().split())

    killed = kiss3d("batch", "merge", out)
    assert killed.returncode == 1
    assert "shard 0/2 was never begun: 4 of 4 to do: p1, p3, p5, more-p1" in killed.stderr
    assert "shard 1/2 was interrupted, the same command goes on with it" in killed.stderr

    again = kiss3d(*shard)
    assert again.returncode == 0, again.stderr
    assert len(counter.read_text().split()) - before == 3 - finished
    more = len(counter.read_text().split())
    assert kiss3d(*shard).returncode == 0
    assert len(counter.read_text().split()) == more, "finished work is left alone"


def test_what_failed_and_what_could_not_be_opened_are_named(kiss3d, asked, pictures, tmp_path):
    (pictures / "p2.txt").write_text("not numbers")
    (pictures / "p3.txt").write_text("")
    out = tmp_path / "out"
    assert [kiss3d(*asked(), "--shard", f"{i}/2").returncode for i in range(2)] == [1, 1]
    merged = kiss3d("batch", "merge", out)
    assert merged.returncode == 1
    assert "5 of 7 good, 2 failed" in merged.stderr
    assert "p2.txt: source: not a list of numbers" in merged.stderr
    assert "p3.txt is empty" in merged.stderr
    summary = json.loads((out / "summary.json").read_text())
    states = {job["name"]: job["state"] for job in summary["jobs"]}
    assert (states["p2"], states["p3"], states["p4"]) == ("failed", "failed", "done")
    assert [row["state"] for row in summary["shards"]] == ["failed", "failed"]


def test_the_list_is_that_of_the_first_shard_and_later_files_are_named(
    kiss3d, asked, pictures, tmp_path
):
    out = tmp_path / "out"
    assert kiss3d(*asked(), "--shard", "0/2").returncode == 0
    (pictures / "a-new-one.txt").write_text("1 1")
    assert kiss3d(*asked(), "--shard", "1/2").returncode == 0
    merged = kiss3d("batch", "merge", out)
    assert merged.returncode == 0, merged.stderr
    assert "7 of 7 good" in merged.stderr
    assert "no part of these shards, as they came later: " in merged.stderr
    assert "a-new-one.txt" in merged.stderr


def test_more_shards_than_pictures_is_a_success_that_says_so(kiss3d, asked, tmp_path):
    out = tmp_path / "out"
    empty = kiss3d(*asked(), "--shard", "8/9")
    assert empty.returncode == 0, empty.stderr
    assert "shard-8-of-9: nothing to do" in empty.stderr
    assert [path.name for path in out.iterdir()] == ["shards.json"]
    as_json = kiss3d(*asked(), "--shard", "7/9", "--json")
    assert (as_json.returncode, json.loads(as_json.stdout)["jobs"]) == (0, [])
    merged = json.loads(kiss3d("batch", "merge", out, "--json").stdout)
    assert [row["state"] for row in merged["shards"]] == ["missing"] * 7 + ["empty"] * 2


def test_shards_that_do_not_fit_together_are_refused(kiss3d, asked, config_file, tmp_path):
    out = tmp_path / "out"
    assert kiss3d(*asked(), "--shard", "0/3").returncode == 0
    other = kiss3d(*asked(), "--shard", "1/4")
    assert other.returncode == 2
    assert "were begun with shards 3, and not 4" in other.stderr
    settings = kiss3d(*asked(config_file(seconds=0.01)), "--shard", "1/3")
    assert settings.returncode == 2
    assert "settings.nodes.trouble.params.seconds" in settings.stderr
    assert [path.name for path in out.glob("shard-*")] == ["shard-0-of-3"]


def test_shards_and_batches_keep_out_of_each_others_directories(kiss3d, asked, tmp_path):
    out = tmp_path / "out"
    assert kiss3d(*asked(), "--shard", "0/3").returncode == 0
    plain = kiss3d(*asked())
    assert plain.returncode == 2
    assert "shared by shards" in plain.stderr
    again = kiss3d("resume", out)
    assert again.returncode == 2
    assert "batch merge" in again.stderr
    assert kiss3d("resume", out / "shard-0-of-3").returncode == 0
    whole = (*asked()[:-1], tmp_path / "whole")
    assert kiss3d(*whole).returncode == 0
    sharded = kiss3d(*whole, "--shard", "0/3")
    assert sharded.returncode == 2
    assert "is a batch by itself" in sharded.stderr
    none = kiss3d("batch", "merge", tmp_path / "whole")
    assert none.returncode == 2
    assert "it is one batch" in none.stderr


@pytest.mark.parametrize(
    ("shard", "told"),
    [
        ("3/3", "counted from 0, so that the last one is 2/3"),
        ("-1/3", "counted from 0"),
        ("/3", "a number is missing"),
        ("1/", "a number is missing"),
        ("1", "is not I/N"),
        ("one/3", "is not I/N"),
        ("0/0", "0 shards"),
        ("0/999999", "999999 shards"),
    ],
)
def test_a_shard_that_is_none_is_refused_before_anything_is_made(
    shard, told, kiss3d, asked, tmp_path
):
    done = kiss3d(*asked(), "--shard", shard)
    assert done.returncode == 2
    assert told in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"terms": {"shards": "x"}}, "terms.shards"),
        ({"terms": {"shards": 10**9}}, "terms.shards"),
        ({"jobs": {}}, "lists nothing"),
        ({"jobs": {"../../p1": {"text": "x"}}}, "is not a plain file name"),
    ],
)
def test_a_list_that_is_none_is_refused(change, told, kiss3d, asked, tmp_path):
    out = tmp_path / "out"
    assert kiss3d(*asked(), "--shard", "6/7").returncode == 0
    (out / "shard-6-of-7").rename(tmp_path / "elsewhere")
    document = json.loads((out / "shards.json").read_text())
    terms = document["terms"] | change.get("terms", {})
    (out / "shards.json").write_text(json.dumps(document | change | {"terms": terms}))
    for words in (("batch", "merge", out), (*asked(), "--shard", "0/7")):
        done = kiss3d(*words)
        assert done.returncode == 2
        assert told in done.stderr
        assert "Traceback" not in done.stderr
    assert [path.name for path in out.iterdir()] == ["shards.json"]


def test_shards_need_an_output_that_they_share(kiss3d, asked):
    done = kiss3d(*asked()[:-2], "--shard", "0/3")
    assert done.returncode == 2
    assert "--shard needs --output" in done.stderr


def test_a_list_that_cannot_be_written_leaves_nothing(kiss3d, asked, tmp_path, monkeypatch):
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import errno, os\nreal = os.replace\n"
        "def replace(source, target, **options):\n"
        "    if os.path.basename(os.fspath(target)) == 'shards.json':\n"
        "        raise OSError(errno.EIO, 'Input/output error')\n"
        "    return real(source, target, **options)\nos.replace = replace\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(hook), os.environ["PYTHONPATH"]]))
    done = kiss3d(*asked(), "--shard", "0/3")
    assert done.returncode == 2
    assert "Input/output error" in done.stderr
    assert not (tmp_path / "out").exists()


def test_results_of_earlier_runs_beside_the_shards_are_taken_over(kiss3d, asked, tmp_path):
    base = (*asked()[:-1], tmp_path / "outputs" / "many", "--keep", "all")
    assert kiss3d(*asked()[:-1], tmp_path / "outputs" / "before", "--keep", "all").returncode == 0
    done = kiss3d(*base, "--shard", "0/3")
    assert done.returncode == 0, done.stderr
    runs = [
        json.loads(path.read_text())
        for path in (tmp_path / "outputs" / "many").glob("shard-*/*/run.json")
    ]
    assert runs
    assert all("before" in run["nodes"]["trouble"]["cached_from"] for run in runs)


def test_clean_removes_shards_and_what_merge_made(kiss3d, asked, tmp_path):
    out = tmp_path / "out"
    for index in range(2):
        assert kiss3d(*asked(), "--shard", f"{index}/2").returncode == 0
    assert kiss3d("batch", "merge", out).returncode == 0
    done = kiss3d("clean", out, "--yes")
    assert done.returncode == 0, done.stderr
    assert not out.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="access rights")
def test_merge_of_a_folder_called_merge_is_a_batch(kiss3d, config_file, tmp_path):
    folder = tmp_path / "merge"
    folder.mkdir()
    (folder / "p.txt").write_text("1 1")
    done = kiss3d(
        *("batch", "./merge", "--glob", "*.txt", "--config", config_file()),
        *("--output", tmp_path / "out"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 1 good" in done.stderr
