"""`stage`: what it takes, what it refuses, and how it ends."""

from __future__ import annotations

import json
import subprocess

import pytest

from devtools.fakes.tools import made_run


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
    subject = "input_image=words.txt: stage fake.source failed"
    assert_refused(done, f"{subject} (bad_input): not a list of numbers", "-> write numbers")
    assert done.stderr.count("not a list of numbers") == 1


def test_a_bug_in_a_stage_shows_its_traceback(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "run"
    kiss3d("run", picture, "--config", config_file(mode="raise"), "--output", out)
    done = kiss3d("stage", "trouble", "--run", out, "--inline")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert f"{out}, node trouble: stage fake.trouble failed (internal): " in done.stderr
    assert "RuntimeError: deliberate\n  -> the traceback is above" in done.stderr


def test_a_failure_in_a_process_of_its_own_names_its_log(kiss3d, picture, config_file, tmp_path):
    out, alone = tmp_path / "run", tmp_path / "alone"
    kiss3d("run", picture, "--config", config_file(mode="raise"), "--output", out)
    done = kiss3d("stage", "trouble", "--run", out, "--output", alone, "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    log = alone / "attempt-1.log"
    assert (told["kind"], told["stage"], told["log"]) == ("internal", "fake.trouble", str(log))
    assert f"  log: {log}\n  -> the traceback is in the log" in done.stderr
    assert "RuntimeError: deliberate" in log.read_text()
    assert "Traceback" in done.stderr, "it is on the screen too"


def test_a_crash_is_told_by_its_signal_and_its_stack_is_in_the_log(
    kiss3d, picture, config_file, tmp_path
):
    out, alone = tmp_path / "run", tmp_path / "alone"
    kiss3d("run", picture, "--config", config_file(mode="segfault"), "--output", out)
    done = kiss3d("stage", "trouble", "--run", out, "--output", alone)
    assert done.returncode == 1
    assert "stage fake.trouble failed (crashed): the process ended with SIGSEGV" in done.stderr
    assert "Segmentation fault" in (alone / "attempt-1.log").read_text()


def test_a_helper_that_holds_stderr_open_does_not_hold_the_command(
    kiss3d, picture, config_file, tmp_path
):
    out = tmp_path / "run"
    kiss3d("run", picture, "--config", config_file(mode="helper"), "--output", out)
    done = kiss3d("stage", "trouble", "--run", out, "--output", tmp_path / "alone")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("options", [(), ("--input", "x=y", "--output", "o")])
def test_an_unknown_stage_names_the_nearest_and_the_list(options, kiss3d, tmp_path):
    done = kiss3d("stage", "fake.sauce", *options)
    assert_refused(done, 'unknown stage "fake.sauce"', 'did you mean "fake.source"?')
    assert "kiss3d-orchestrate stages list" in done.stderr


def test_a_stage_in_the_place_of_a_node_is_told_which_node_it_is(kiss3d, finished):
    done = kiss3d("stage", "fake.trouble", "--run", finished, "--set", "seconds=1")
    assert_refused(done, "NAME is a node of the run", f"its nodes in {finished}: trouble")
    done = kiss3d("stage", "fake.draw", "--run", finished)
    assert_refused(done, "NAME is a node", f"{finished} has no node of this stage; its nodes: ")
    done = kiss3d("stage", "troubel", "--run", finished)
    assert_refused(done, 'unknown node "troubel"', 'did you mean "trouble"?')


def test_a_node_that_is_off_in_a_run_is_none_of_its_nodes(kiss3d, finished):
    record = json.loads((finished / "run.json").read_text())
    record["settings"]["nodes"]["sink"]["enabled"] = False
    (finished / "run.json").write_text(json.dumps(record))
    done = kiss3d("stage", "sink", "--run", finished)
    assert_refused(done, f'unknown node "sink" in {finished}\n  -> known: source, trouble\n')


def test_a_directory_in_the_place_of_an_input_is_told(kiss3d, tmp_path):
    done = kiss3d(*own_files(tmp_path, tmp_path))
    assert_refused(done, f"{tmp_path} is a directory")


def test_a_written_job_runs_by_the_command_line_that_is_printed(kiss3d, finished, tmp_path):
    job = tmp_path / "it's a job.json"
    told = kiss3d("stage", "trouble", "--run", finished, "--write-job", job, "--output", "alone")
    assert told.returncode == 0, told.stderr
    assert not (tmp_path / "alone").exists(), "nothing was started"
    assert json.loads(job.read_text())["stage"] == "fake.trouble"
    done = subprocess.run(
        ["sh", "-c", told.stdout], cwd="/", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made = tmp_path / "alone" / "troubled.npy"
    assert done.stdout == f"{made}\n"
    assert made.read_bytes() == (finished / "trouble" / "troubled.npy").read_bytes()
    again = kiss3d("stage", "trouble", "--run", finished, "--write-job", tmp_path / "no" / "job")
    assert_refused(again, "cannot write")


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


def test_stage_redoes_one_node_of_a_run(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    made_run(kiss3d, picture, config_file(), out)
    done = kiss3d("stage", "trouble", "--run", out, "--set", "seconds=0.01")
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "run.json").read_text())
    assert len(record["nodes"]["trouble"]["attempts"]) == 2
    assert len(record["nodes"]["sink"]["attempts"]) == 1
    assert record["settings"]["nodes"]["trouble"]["params"]["seconds"] == 0.01
    assert kiss3d("resume", out).returncode == 0
    rows = json.loads((out / "run.json").read_text())["nodes"]
    assert len(rows["trouble"]["attempts"]) == 2, "what it was set to is what the run has now"


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
