"""What must not happen: a foreign picture, a stale mesh, a poisoned cache, a way out of the run."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from devtools.fakes.running import of_this_session
from devtools.fakes.tools import cli_environment, command, leftovers
from devtools.patience import PATIENCE
from orchestrator.errors import RunRecordError
from orchestrator.record.run_directory import RunDirectory


def run(kiss3d, picture, config, out, *options):
    done = kiss3d("run", picture, "--config", config, "--output", out, *options)
    assert done.returncode == 0, done.stderr
    return done


def states(out) -> dict[str, str]:
    nodes = json.loads((out / "run.json").read_text())["nodes"]
    return {name: record["state"] for name, record in nodes.items()}


def test_runs_that_start_in_the_same_second_get_directories_of_their_own(config_file, tmp_path):
    config = config_file()
    started = []
    for index in range(3):
        folder = tmp_path / str(index)
        folder.mkdir()
        (folder / "same.txt").write_text(f"{index} 10")
        started.append(
            subprocess.Popen(
                command("run", folder / "same.txt", "--config", config, "--json"),
                cwd=tmp_path,
                env=cli_environment(),
                stdout=subprocess.PIPE,
            )
        )
    answers = [json.loads(process.communicate(timeout=PATIENCE)[0]) for process in started]
    assert len({answer["run"] for answer in answers}) == 3
    for index, answer in enumerate(answers):
        with open(os.path.join(answer["run"], "sink", "total.txt")) as stream:
            assert stream.read() == f"{index + 12} seed 42"


def test_a_changed_copy_of_the_picture_is_noticed_and_poisons_nothing(
    kiss3d, picture, config_file, tmp_path
):
    config = config_file()
    assert kiss3d("run", picture, "--config", config, "--until", "source").returncode == 0
    (made,) = (tmp_path / "outputs").glob("in-*")
    (made / "input.img").write_text("9 9 9")
    resumed = kiss3d("resume", made)
    assert resumed.returncode == 2
    assert "was changed since the run began" in resumed.stderr
    assert resumed.stdout == ""
    assert "done" not in resumed.stderr
    assert kiss3d("run", picture, "--config", config, "--output", made).returncode == 0
    assert (made / "input.img").read_text() == "1 2 3", "the picture is at hand, so it is restored"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data["given"]["input_image"].update(file="../../secret"),
        lambda data: data["nodes"].update({"../away": {}}),
        lambda data: data["nodes"]["source"]["artifacts"]["numbers"][0].update(file="/etc/passwd"),
    ],
    ids=["input", "node", "artifact"],
)
def test_a_manifest_cannot_lead_out_of_its_directory(
    change, kiss3d, picture, config_file, tmp_path
):
    out = tmp_path / "out"
    run(kiss3d, picture, config_file(), out)
    data = json.loads((out / "run.json").read_text())
    change(data)
    (out / "run.json").write_text(json.dumps(data))
    with pytest.raises(RunRecordError, match="is not a"):
        RunDirectory.open(out)
    assert kiss3d("resume", out).returncode == 2


def test_what_no_longer_fits_the_request_is_not_called_done(kiss3d, picture, config_file, tmp_path):
    out, config = tmp_path / "out", config_file()
    run(kiss3d, picture, config, out)
    run(kiss3d, picture, config, out, "--seed", 3, "--until", "source")
    assert states(out) == {"source": "done", "trouble": "pending", "sink": "pending"}
    run(kiss3d, picture, config, out)
    assert set(states(out).values()) == {"done"}


def test_a_redone_stage_makes_what_reads_from_it_pending(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    run(kiss3d, picture, config_file(), out)
    done = kiss3d("stage", "source", "--run", out, "--set", "repeat=2")
    assert done.returncode == 0, done.stderr
    assert states(out) == {"source": "done", "trouble": "pending", "sink": "pending"}


def test_a_node_that_left_the_graph_leaves_the_record(kiss3d, picture, config_file, tmp_path):
    out, config = tmp_path / "out", config_file()
    run(kiss3d, picture, config, out)
    done = run(kiss3d, picture, config, out, "--set", "sink.enabled=false")
    assert set(states(out)) == {"source", "trouble"}
    told = [line.split("] ")[-1] for line in done.stderr.splitlines()]
    assert not any(line.startswith("sink") for line in told)
    assert any(line.startswith("trouble") for line in told)


def test_a_helper_that_a_stage_leaves_behind_ends_with_it(kiss3d, picture, config_file, tmp_path):
    run(kiss3d, picture, config_file(mode="helper"), tmp_path / "out")
    assert of_this_session("sleep", "3601") == []


def test_a_long_temporary_folder_does_not_matter(
    kiss3d, picture, config_file, tmp_path, monkeypatch
):
    """A socket's path is limited to about a hundred bytes; then loopback TCP serves."""
    folder = tmp_path / ("deep" * 12) / ("down" * 12)
    folder.mkdir(parents=True)
    monkeypatch.setenv("TMPDIR", str(folder))
    run(kiss3d, picture, config_file(), tmp_path / "out")
    assert list(folder.iterdir()) == []


def test_a_path_that_is_no_utf8_works(kiss3d, picture, config_file, tmp_path):
    out = os.fsdecode(os.fsencode(tmp_path) + b"/out\xe9")
    run(kiss3d, picture, config_file(), out)
    assert kiss3d("resume", out).returncode == 0


def test_a_run_that_cannot_begin_leaves_no_directory(kiss3d, picture, config_file, tmp_path):
    done = kiss3d("run", picture, "--config", config_file(), "--from", "sink")
    assert done.returncode == 2
    assert list((tmp_path / "outputs").glob("in-*")) == []


def test_from_behind_until_is_refused(kiss3d, picture, config_file):
    done = kiss3d("run", picture, "--config", config_file(), "--from", "sink", "--until", "source")
    assert done.returncode == 2
    assert "--from sink lies behind --until source" in done.stderr


def test_a_record_without_its_outputs_is_computed_again(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    run(kiss3d, picture, config_file(), out)
    data = json.loads((out / "run.json").read_text())
    data["nodes"]["source"]["artifacts"] = {}
    (out / "run.json").write_text(json.dumps(data))
    done = kiss3d("resume", out)
    assert done.returncode == 0, done.stderr
    assert "source: done" in done.stderr


def test_a_file_in_the_place_of_a_node_folder_is_an_error_with_a_message(
    kiss3d, picture, config_file, tmp_path
):
    out = tmp_path / "out"
    run(kiss3d, picture, config_file(), out, "--until", "source")
    (out / "trouble").write_text("in the way")
    data = json.loads((out / "run.json").read_text())
    data["until"] = ""
    (out / "run.json").write_text(json.dumps(data))
    done = kiss3d("resume", out)
    assert done.returncode == 1
    assert "trouble failed (internal)" in done.stderr
    assert "Traceback" not in done.stderr
    assert leftovers(out) == []
