"""The commands around a run, each as a user types it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from devtools.fakes.tools import cli_environment, command, leftovers, made_run
from devtools.patience import PATIENCE
from orchestrator.cli import run_table, tables


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
    done = kiss3d("plan", picture, "--config", config)
    assert "nothing to compute: all of it is taken from earlier runs" in done.stdout + done.stderr
    after = kiss3d("plan", picture, "--config", config, "--set", "trouble.seconds=0.5", "--json")
    rows = json.loads(after.stdout)["nodes"]
    assert [row["cached"] for row in rows] == [True, False, False]
    assert "no finished run has these inputs and params" in rows[1]["reason"]
    assert "reads what trouble will make" in rows[2]["reason"]


def test_json_output_is_one_document_and_stderr_stays_empty(kiss3d, picture, config_file, tmp_path):
    done = made_run(kiss3d, picture, config_file(), tmp_path / "out", "--json")
    assert json.loads(done.stdout)["state"] == "done"
    assert done.stderr == ""


def test_stdout_holds_the_result_path_alone(kiss3d, picture, config_file, tmp_path):
    done = made_run(kiss3d, picture, config_file(), tmp_path / "out")
    assert done.stdout.strip() == str(tmp_path / "out")


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
    header = run_table.TABLE_HEADER
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


@pytest.mark.parametrize("file", ["stages/__init__.py", "stages/other.py", "stages.py"])
def test_a_package_of_the_same_name_in_front_of_ours_is_named(file, tmp_path):
    other = tmp_path / "theirs" / file
    other.parent.mkdir(parents=True)
    other.write_text("")
    environment = cli_environment()
    paths = [str(tmp_path / "theirs"), environment["PYTHONPATH"]]
    done = subprocess.run(
        command("doctor"),
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    taken = file == "stages/other.py"  # a folder without __init__.py gives way to a package
    assert done.returncode == (0 if taken else 2), done.stderr
    assert ("and is another one" in done.stderr) != taken
    assert "Traceback" not in done.stderr
