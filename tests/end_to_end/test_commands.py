"""The commands around a run, each as a user types it."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
from fakes.tools import cli_environment, command, leftovers
from filelock import FileLock

from orchestrator import report
from orchestrator.cli import tables


def made_run(kiss3d, picture, config, out, *options):
    done = kiss3d("run", picture, "--config", config, "--output", out, *options)
    assert done.returncode == 0, done.stderr
    return done


def test_a_second_run_of_the_same_picture_takes_everything_from_the_first(
    kiss3d, picture, config_file, tmp_path
):
    config = config_file()
    first = kiss3d("run", picture, "--config", config)
    assert first.returncode == 0, first.stderr
    second = kiss3d("run", picture, "--config", config)
    assert second.returncode == 0, second.stderr
    assert second.stderr.count("unchanged, taken from") == 3
    runs = sorted((tmp_path / "outputs").glob("in-*"))
    assert len(runs) == 2
    assert (runs[1] / "sink" / "total.txt").read_text() == "9 seed 42"


def test_a_changed_param_runs_its_node_and_what_reads_from_it(
    kiss3d, picture, config_file, tmp_path
):
    config = config_file()
    made_run(kiss3d, picture, config, tmp_path / "out")
    done = made_run(kiss3d, picture, config, tmp_path / "out", "--set", "trouble.seconds=0.01")
    assert "source: unchanged" in done.stderr
    assert "trouble: done" in done.stderr
    assert "sink: done" in done.stderr


def test_seed_zero_is_a_seed(kiss3d, picture, config_file, tmp_path):
    made_run(kiss3d, picture, config_file(), tmp_path / "out", "--seed", 0)
    assert (tmp_path / "out" / "sink" / "total.txt").read_text() == "9 seed 0"


def test_until_stops_there_and_from_computes_again(kiss3d, picture, config_file, tmp_path):
    out, config = tmp_path / "out", config_file()
    made_run(kiss3d, picture, config, out, "--until", "trouble")
    assert not (out / "sink").exists()
    early = kiss3d("run", picture, "--config", config, "--output", out, "--from", "sink")
    assert early.returncode == 0, early.stderr
    again = made_run(kiss3d, picture, config, out, "--from", "trouble")
    assert "source: unchanged" in again.stderr
    assert "trouble: done" in again.stderr
    assert "sink: done" in again.stderr


def test_from_refuses_when_what_is_before_does_not_exist(kiss3d, picture, config_file, tmp_path):
    done = kiss3d("run", picture, "--config", config_file(), "--from", "sink")
    assert done.returncode == 2
    assert "--from sink: source, trouble" in done.stderr
    assert leftovers(tmp_path) == []


def test_plan_tells_what_run_would_do_and_starts_nothing(kiss3d, picture, config_file, tmp_path):
    config = config_file()
    before = kiss3d("plan", picture, "--config", config, "--json")
    rows = json.loads(before.stdout)["nodes"]
    assert [row["cached"] for row in rows] == [False, False, False]
    assert not (tmp_path / "outputs").exists()
    assert kiss3d("run", picture, "--config", config).returncode == 0
    after = kiss3d("plan", picture, "--config", config, "--set", "trouble.seconds=0.5", "--json")
    rows = json.loads(after.stdout)["nodes"]
    assert [row["cached"] for row in rows] == [True, False, False]
    assert "no finished run has these inputs and params" in rows[1]["reason"]
    assert "reads from trouble" in rows[2]["reason"]


def test_json_output_is_one_document_and_stderr_stays_empty(kiss3d, picture, config_file, tmp_path):
    done = made_run(kiss3d, picture, config_file(), tmp_path / "out", "--json")
    assert json.loads(done.stdout)["state"] == "done"
    assert done.stderr == ""


def test_stdout_holds_the_result_path_alone(kiss3d, picture, config_file, tmp_path):
    done = made_run(kiss3d, picture, config_file(), tmp_path / "out")
    assert done.stdout.strip() == str(tmp_path / "out")


def test_stage_redoes_one_node_of_a_run(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    made_run(kiss3d, picture, config_file(), out)
    done = kiss3d("stage", "trouble", "--run", out, "--set", "seconds=0.01")
    assert done.returncode == 0, done.stderr
    rows = json.loads((out / "run.json").read_text())["nodes"]
    assert len(rows["trouble"]["attempts"]) == 2
    assert len(rows["sink"]["attempts"]) == 1


def test_stage_inline_runs_in_this_process(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    made_run(kiss3d, picture, config_file(), out)
    done = kiss3d("stage", "trouble", "--run", out, "--inline", "--output", tmp_path / "alone")
    assert done.returncode == 0, done.stderr
    isolated = (out / "trouble" / "troubled.npy").read_bytes()
    assert (tmp_path / "alone" / "troubled.npy").read_bytes() == isolated


def test_stage_takes_files_of_ones_own(kiss3d, picture, tmp_path):
    done = kiss3d(
        "stage",
        "fake.source",
        "--input",
        f"input_image={picture}",
        "--set",
        "repeat=2",
        "--output",
        tmp_path / "alone",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "alone" / "numbers.npy").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["stage", "fake.source"], "give either --run"),
        (["stage", "fake.source", "--input", "x=y", "--output", "o"], 'unknown input "x"'),
        (["stage", "fake.sauce", "--input", "x=y", "--output", "o"], 'mean "fake.source"'),
        (["stage", "fake.source", "--input", "input_image=no", "--output", "o"], "not exist"),
        (["stage", "fake.source", "--input", "input_image=in.txt"], "needs --output"),
        (["stages", "describe", "fake.sauce"], 'did you mean "fake.source"'),
    ],
)
def test_stage_says_what_is_missing(arguments, words, kiss3d, picture):
    done = kiss3d(*arguments)
    assert done.returncode == 2
    assert words in done.stderr


def test_stages_list_and_describe_show_the_contracts(kiss3d):
    listed = kiss3d("stages", "list").stdout
    assert "preprocess" in listed
    assert re.search(r"fake.trouble +registered +adds one", listed)
    told = kiss3d("stages", "describe", "fake.source").stdout
    assert "depends on the seed" in told
    contract = json.loads(kiss3d("stages", "describe", "inflate", "--json").stdout)
    assert contract["uses_seed"] is False
    assert "repeat" in told
    assert "how often the numbers are repeated" in told
    assert "(N) float32" in told


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
    assert f" {row['stage_seconds']:.1f}" in shown[2]


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


def test_config_profiles_and_diff_speak_json(kiss3d):
    listed = kiss3d("config", "profiles", "--json")
    rows = {row["name"]: row["description"] for row in json.loads(listed.stdout)}
    assert rows["sketch"]
    differ = kiss3d("config", "diff", "original", "optimized_12gb", "--json")
    [steps] = [row for row in json.loads(differ.stdout) if row["path"] == "nodes.flux.params.steps"]
    assert steps["first"] == {"profile": "original", "value": 20, "source": "profile original"}
    assert steps["second"]["value"] == 14
    assert (listed.stderr, differ.stderr) == ("", "")
    same = kiss3d("config", "diff", "sketch", "sketch")
    assert (same.stdout, same.stderr) == ("", "sketch and sketch set the same\n")
    unknown = kiss3d("config", "diff", "original", "optimised", "--json")
    assert unknown.returncode == 2
    assert 'unknown profile "optimised"' in json.loads(unknown.stdout)["error"]


def test_config_show_names_the_layer_of_every_value(kiss3d, tmp_path):
    (tmp_path / "mine.yaml").write_text("profile: sketch\nseed: 7\n")
    shown = kiss3d(
        "config", "show", "--config", "mine.yaml", "--set", "isomer.timeout=99", "--json"
    )
    rows = {row["path"]: row for row in json.loads(shown.stdout)}
    assert rows["seed"] == {"path": "seed", "value": 7, "source": "file mine.yaml"}
    assert rows["nodes.isomer.timeout"]["source"] == "--set isomer.timeout=99"
    assert rows["nodes.isomer.stage"]["source"] == "profile sketch"
    assert rows["runtime.cpu_slots"]["source"] == "default"


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


def test_a_full_stdout_is_one_line(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    made_run(kiss3d, picture, config_file(), out)
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command("runs", "show", out),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=cli_environment(),
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "error: cannot write the output: No space left on device\n"


def test_the_table_keeps_the_names_of_nodes_at_80_columns(monkeypatch, capsys):
    header = report.TABLE_HEADER
    row = ("reconstruction", "done", "cpu warm", "10.31", "10.02", "10.29", "1.23 GiB", "-", "-")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    tables.print_table(header, [row])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].split()[0] == "reconstruction"


def test_every_command_fits_its_line_of_help(kiss3d, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    for group in ((), ("stages",), ("runs",), ("config",), ("models",)):
        listed = kiss3d(*group, "--help").stdout.partition("Commands:")[2]
        assert listed
        assert "..." not in listed


@pytest.mark.parametrize("command_line", [["run", "no.png"], ["plan", "no.png"], ["resume", "no"]])
def test_json_tells_an_error_that_comes_before_the_run(command_line, kiss3d):
    done = kiss3d(*command_line, "--json")
    told = json.loads(done.stdout)
    assert (told["state"], told["exit_code"], done.returncode) == ("failed", 2, 2)
    assert told["error"] in done.stderr


def test_json_of_a_failed_run_is_the_run_once(kiss3d, picture, config_file):
    done = kiss3d("run", picture, "--config", config_file(mode="raise"), "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["nodes"]["trouble"]["state"] == "failed"


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
    assert sorted(path.name for path in outputs.iterdir()) == ["a", "b"]
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
