"""`stage`: what it takes, what it refuses, and how it ends."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def finished(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "run"
    done = kiss3d("run", picture, "--config", config_file(), "--output", out)
    assert done.returncode == 0, done.stderr
    return out


def assert_refused(done, *words):
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def own_files(picture, tmp_path, *options):
    return (
        "stage",
        "fake.source",
        "--input",
        f"input_image={picture}",
        "--output",
        tmp_path / "alone",
        *options,
    )


def test_a_value_that_is_no_yaml_is_a_config_error(kiss3d, picture, tmp_path):
    done = kiss3d(*own_files(picture, tmp_path, "--set", "repeat=[1"))
    assert_refused(done, "the value is not valid YAML")


@pytest.mark.parametrize("option", [("--seed", 99), ("--dtype", "bfloat16")])
def test_seed_and_dtype_need_a_place_outside_the_run(option, kiss3d, finished):
    done = kiss3d("stage", "trouble", "--run", finished, *option)
    assert_refused(done, "--seed and --dtype go with --output or --inline")


def test_verbose_without_a_plan_is_refused(kiss3d, picture, tmp_path):
    done = kiss3d(*own_files(picture, tmp_path, "-v"))
    assert_refused(done, "--verbose goes with --run alone")


@pytest.mark.parametrize("how", [(), ("--inline",)])
def test_json_names_the_written_files_alone(how, kiss3d, picture, tmp_path):
    done = kiss3d(*own_files(picture, tmp_path, "--json", *how))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"outputs": [str(tmp_path / "alone" / "numbers.npy")]}


def test_json_keeps_what_a_stage_prints_off_stdout(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "run"
    made = kiss3d("run", picture, "--config", config_file(mode="print"), "--output", out)
    assert made.returncode == 0, made.stderr
    again = ("stage", "trouble", "--run", out, "--output", tmp_path / "alone", "--json")
    done = kiss3d(*again, errors="replace")
    assert len(json.loads(done.stdout)["outputs"]) == 1


def test_json_tells_what_was_wrong(kiss3d, finished):
    done = kiss3d("stage", "trouble", "--run", finished, "--set", "nope=1", "--json")
    assert done.returncode == 2
    assert 'unknown param "nope"' in json.loads(done.stdout)["error"]


@pytest.mark.parametrize("how", [(), ("--inline",)])
def test_a_bad_input_is_told_without_a_traceback(how, kiss3d, tmp_path):
    (tmp_path / "words.txt").write_text("no numbers")
    done = kiss3d(*own_files("words.txt", tmp_path, *how))
    assert_refused(done, "bad_input: not a list of numbers", "-> write numbers")


def test_a_bug_in_a_stage_shows_its_traceback(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "run"
    kiss3d("run", picture, "--config", config_file(mode="raise"), "--output", out)
    done = kiss3d("stage", "trouble", "--run", out, "--inline")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "internal: RuntimeError: deliberate" in done.stderr


def test_one_input_has_one_file(kiss3d, picture, tmp_path):
    done = kiss3d(*own_files(picture, tmp_path, "--input", f"input_image={picture}"))
    assert_refused(done, "--input input_image was given twice")


def test_an_output_that_cannot_be_made_is_an_output_error(kiss3d, picture, finished):
    done = kiss3d("stage", "trouble", "--run", finished, "--output", picture / "below")
    assert_refused(done, "cannot write to", "choose another --output")


def test_help_says_where_inline_files_go(kiss3d):
    assert "RUN_DIR/NAME/inline" in kiss3d("stage", "--help").stdout


def test_describe_speaks_of_no_node(kiss3d):
    done = kiss3d("stages", "describe", "nope")
    assert_refused(done, 'unknown stage "nope"')
    assert "node" not in done.stderr
