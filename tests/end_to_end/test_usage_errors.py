"""What cannot be done as asked: exit code 2, one clear message, nothing started or written."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from stages.preprocess.params import COLOURS, METHODS


def assert_refused(done, *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr


def test_a_missing_file(kiss3d, tmp_path):
    assert_refused(kiss3d("run", "nowhere.png"), "nowhere.png does not exist")
    assert list(tmp_path.glob("outputs/*")) == []


def test_a_directory_instead_of_a_picture(kiss3d, tmp_path):
    assert_refused(kiss3d("run", tmp_path), "is a directory", "batch")
    (tmp_path / "run.json").write_text("{}")
    assert_refused(kiss3d("run", tmp_path), "is the directory of a run", "resume")
    (tmp_path / "batch.json").write_text("{}")
    assert_refused(kiss3d("run", tmp_path), "is the directory of a batch", "resume")


def test_a_mesh_that_is_none_leaves_no_folder_behind(kiss3d, tmp_path):
    (tmp_path / "bad.glb").write_bytes(b"glTFrubbish")
    assert_refused(kiss3d("run", "bad.glb", "--profile", "sketch"), "damaged or incomplete")
    assert not (tmp_path / "outputs").exists()


def test_an_empty_file(kiss3d, tmp_path):
    (tmp_path / "empty.png").touch()
    assert_refused(kiss3d("run", "empty.png"), "empty.png is empty")


def test_a_pipe_in_the_place_of_a_picture(kiss3d, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    assert_refused(kiss3d("run", "pipe.png"), "pipe.png is no regular file")


def test_a_file_over_the_limit(kiss3d, tmp_path):
    with (tmp_path / "huge.png").open("wb") as stream:
        stream.truncate(3 << 20)
    done = kiss3d("run", "huge.png", "--set", "runtime.max_input_mib=2")
    assert_refused(done, "has 3 MiB, more than 2 MiB", "runtime.max_input_mib")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--profile", "sketsch"], ['unknown profile "sketsch"', 'did you mean "sketch"']),
        (["--set", "isomre.radius=4"], ['unknown node "isomre"', 'did you mean "isomer"']),
        (["--set", "isomer.target_facse=4"], ['"target_facse"', 'did you mean "target_faces"']),
        (["--set", "isomer.target_faces"], ["expected NODE.PARAM=VALUE"]),
        (["--set", "isomer.target_faces=lots"], ["'lots'", "stages describe isomer"]),
        (["--set", "preprocess.stage=perprocess"], ['unknown stage "perprocess"', "preprocess"]),
        (["--until", "isomr"], ['unknown node "isomr"', 'did you mean "isomer"']),
        (["--from", "nothing"], ['unknown node "nothing"']),
        (["--set", "isomer.timeout=.inf"], ["nodes.isomer.timeout", "finite"]),
        (["--set", "runtime.heartbeat_timeout=.nan"], ["runtime.heartbeat_timeout", "nan"]),
        (["--device", "cuda:7"], ["there is no cuda:7 here"]),
        (["--device", "tpu"], ['unknown device "tpu"']),
        (["--config", "missing.yaml"], ["cannot read missing.yaml", "check the path"]),
        (["--seed", "-1"], ["--seed", "-1 is no seed: that is a whole number from 0 on"]),
        (["--seed", "abc"], ["--seed", "abc is no seed", "gives the same result again"]),
        (["--seed", "9" * 20], ["too large for a seed: at most 9223372036854775807"]),
        (["--views", "auto"], ["several pictures show: this is one", "leave --views auto out"]),
        (["--mask", "words.png"], ["words.png is not a picture", "-> --mask takes a picture"]),
        (["--output"], ["requires an argument", "-> kiss3d-orchestrate run --help"]),
        (["--no-such-option"], ["no-such-option"]),
        (["--resume"], ["No such option: --resume", "resume is a command of its own"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_names_and_values_that_do_not_exist(options, words, kiss3d, picture, tmp_path):
    (tmp_path / "words.png").write_text("a red vase")
    assert_refused(kiss3d("run", picture, *options), *words)


@pytest.mark.parametrize(
    ("name", "meant"), [("bacth", "batch"), ("merge", "batch merge"), ("pull", "models pull")]
)
def test_an_unknown_command_names_the_nearest(name, meant, kiss3d):
    assert_refused(kiss3d(name), f'did you mean "{meant}"')


def test_an_option_that_is_missing_is_named_as_it_is_given(kiss3d):
    assert_refused(kiss3d("evaluate", "a.glb"), "-> add --truth MESH")


def test_help_names_every_background_that_an_error_would(kiss3d):
    told = kiss3d("run", "--help").stdout
    for value in (*METHODS, *COLOURS):
        assert value in told


def test_a_layout_that_is_none_names_the_file_and_the_way_on(kiss3d, picture, tmp_path):
    (tmp_path / "mine.yaml").write_text("nodes: {foo: 1}")
    done = kiss3d("run", picture, "--config", "mine.yaml")
    assert_refused(done, "mine.yaml: nodes.foo: expected a mapping", "config show")


def test_broken_yaml_is_not_a_traceback(kiss3d, picture, tmp_path):
    (tmp_path / "broken.yaml").write_text("nodes: [")
    assert_refused(kiss3d("run", picture, "--config", "broken.yaml"), "is not valid YAML", "-> ")


@pytest.fixture
def unwritable(tmp_path):
    """A folder in which nobody who runs this may make another: root is stopped by sysfs only."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        if not Path("/sys/kernel").is_dir():
            pytest.skip("root may write everywhere here")
        return Path("/sys/kernel")
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    return locked


def test_an_unwritable_output(kiss3d, picture, config_file, unwritable):
    out = unwritable / "out"
    done = kiss3d("run", picture, "--config", config_file(), "--output", out)
    assert_refused(done, f"cannot write to {out}", "-> ")


def test_an_output_without_a_name(kiss3d, picture, config_file):
    done = kiss3d("run", picture, "--config", config_file(), "--output", "")
    assert_refused(done, "--output", "it is empty")


@pytest.mark.parametrize("below", ["", "out"])
def test_a_file_where_the_output_has_to_be(kiss3d, picture, config_file, tmp_path, below):
    file = tmp_path / "file"
    file.write_text("mine")
    done = kiss3d("run", picture, "--config", config_file(), "--output", file / below)
    assert_refused(done, "cannot write to", "-> a file is where a directory has to be")
    assert file.read_text() == "mine"


def test_an_output_that_holds_something_else(kiss3d, picture, config_file, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    done = kiss3d("run", picture, "--config", config_file(), "--output", tmp_path / "mine")
    assert_refused(done, "is not empty and holds no run")


def test_an_output_that_holds_a_run_of_another_picture(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    assert kiss3d("run", picture, "--config", config_file(), "--output", out).returncode == 0
    other = tmp_path / "other.txt"
    other.write_text("4 5 6")
    done = kiss3d("run", other, "--config", config_file(), "--output", out)
    assert_refused(done, "holds a run of another picture")


@pytest.mark.parametrize("command", [["resume"], ["runs", "show"], ["stage", "source", "--run"]])
def test_a_directory_without_a_run(command, kiss3d, tmp_path):
    assert_refused(kiss3d(*command, tmp_path), "holds no run")


def test_a_directory_that_does_not_exist(kiss3d):
    assert_refused(kiss3d("resume", "nowhere"), "nowhere does not exist")


def test_what_to_do_next_can_be_pasted_into_a_shell(kiss3d, picture, config_file, tmp_path):
    out = "it's a $run"
    done = kiss3d("run", picture, "--config", config_file(mode="raise"), "--output", out)
    assert done.returncode == 1
    [*_, words] = done.stderr.strip().partition("kiss3d-orchestrate resume ")
    assert shlex.split(words) == [out]


def test_json_tells_a_wrong_option_too(kiss3d):
    done = kiss3d("plan", "x.png", "--json", "--seed", "-1")
    assert done.returncode == 2
    told = json.loads(done.stdout)
    assert "'--seed'" in told["error"]
    assert told["exit_code"] == 2
    assert "'--seed'" in done.stderr


def test_a_batch_is_not_resumed_into_something_else(kiss3d, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    done = kiss3d("batch", "pictures", "--resume", "-o", "mine", "--profile", "sketch")
    assert_refused(done, "mine is not empty", "it is no batch")
    assert "add --resume" not in done.stderr


def test_how_a_list_is_read_is_said_before_it_is_refused(kiss3d, tmp_path):
    (tmp_path / "notes.txt").write_text("milk\n")
    asked = ("batch", "notes.txt", "--device", "cpu")
    assert_refused(kiss3d(*asked), "note: notes.txt is read as a list, one a line: 1 description\n")
    done = kiss3d(*asked, "--json")
    assert "note:" not in done.stderr
    assert json.loads(done.stdout)["state"] == "failed"


def test_a_damaged_manifest(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    assert kiss3d("run", picture, "--config", config_file(), "--output", out).returncode == 0
    (out / "run.json").write_text('{"format": 1, "inp')
    assert_refused(kiss3d("resume", out), "run.json cannot be read")


def test_a_limit_of_file_size_keeps_what_is_done_and_is_named(
    kiss3d, picture, config_file, tmp_path
):
    """RLIMIT_FSIZE: writes over the limit fail with EFBIG, treated like a full disk."""
    import resource

    out = tmp_path / "out"
    config = config_file(source={"repeat": 2_000_000})
    limit = 16 << 20

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = kiss3d("run", picture, "--config", config, "--output", out, preexec_fn=limited)
    assert done.returncode == 1, done.stderr
    assert "disk_full" in done.stderr
    assert "ulimit -f unlimited" in done.stderr
    assert "Traceback" not in done.stderr
    again = kiss3d("resume", out)
    assert again.returncode == 0, again.stderr


def test_a_disk_that_fills_while_the_parent_writes(kiss3d, picture, config_file, tmp_path):
    import resource

    out = tmp_path / "out"
    config = config_file(source={"repeat": 60_000}, runtime={"inline_max_bytes": 1 << 30})
    limit = 200_000

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = kiss3d("run", picture, "--config", config, "--output", out, preexec_fn=limited)
    assert done.returncode == 1, done.stderr
    assert "disk_full: cannot write the result" in done.stderr
    assert "Traceback" not in done.stderr
    assert not Path(out / "source" / "numbers.npy").exists()


@pytest.mark.parametrize("option", ["--target-vram", "--host-ram"])
@pytest.mark.parametrize("value", ["nan", "inf", "1e400", "-1", "0", "lots"])
def test_a_budget_that_is_no_number(kiss3d, picture, config_file, option, value):
    done = kiss3d("plan", picture, "--config", config_file(), option, value)
    assert_refused(done, f"Invalid value for '{option}'")


def test_a_budget_with_a_unit_or_in_mib(kiss3d, picture, config_file):
    done = kiss3d("plan", picture, "--config", config_file(), "--target-vram", "8GB")
    assert_refused(done, "'8GB' is not a valid number")
    done = kiss3d("plan", picture, "--config", config_file(), "--target-vram", "8000")
    assert_refused(done, "8000.0 is not in the range 0<x<=1024")


def test_a_node_that_needs_a_card_where_none_may_be_used(kiss3d, picture, config_file, tmp_path):
    config = config_file(attempts=[{"device": "cuda"}])
    out = tmp_path / "out"
    done = kiss3d("run", picture, "--config", config, "--device", "cpu", "--output", out)
    assert_refused(done, "trouble needs a GPU, and none may be used")
    assert not out.exists()
    done = kiss3d("plan", picture, "--config", config, "--device", "cpu")
    assert done.returncode == 2
    assert "error: trouble needs a GPU, and none may be used" in done.stderr
    assert "\ntrouble " in done.stdout, "the plan itself is shown all the same"
    done = kiss3d("plan", picture, "--config", config, "--device", "cpu", "--json")
    assert "trouble needs a GPU" in json.loads(done.stdout)["missing_card"]
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_text("1 2 3")
    done = kiss3d("batch", folder, "--config", config, "--device", "cpu", "--output", out)
    assert_refused(done, "trouble needs a GPU, and none may be used")


def test_a_plan_says_that_the_run_would_lack_a_card(kiss3d, picture, config_file):
    asked = ("plan", picture, "--config", config_file(attempts=[{"device": "cuda"}]))
    done = kiss3d(*asked, "--device", "cpu")
    assert done.returncode == 2
    assert "error: trouble needs a GPU, and none may be used" in done.stderr
    assert "trouble" in done.stdout  # the table is shown all the same
    shown = json.loads(kiss3d(*asked, "--device", "cpu", "--json").stdout)
    assert "trouble needs a GPU" in shown["missing_card"]
