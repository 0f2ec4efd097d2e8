"""Each way in which a stage can misbehave, and what the user is told. A table, as it should be."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from devtools.fakes.running import finish, of_this_session, seen, start, wait_for
from devtools.fakes.tools import leftovers


@dataclass(frozen=True)
class Case:
    """A fake's mode, the kind it must be recorded as, words of the message, the exit code."""

    mode: str
    kind: str
    says: str
    exit_code: int = 1
    attempts: int = 1


CASES = [
    Case("raise", "internal", "RuntimeError: deliberate"),
    Case("bad_input", "bad_input", "these numbers are unlucky", exit_code=2),
    Case("segfault", "crashed", "SIGSEGV (-11)", attempts=2),
    Case("exit0", "crashed", "exit code 0 before it was done", attempts=2),
    Case("exit3", "crashed", "exit code 3", attempts=2),
    Case(
        "killed", "crashed", "SIGKILL (-9): usually the system's out-of-memory killer", attempts=2
    ),
    Case("oom", "out_of_memory", "MemoryError"),
    Case("garbage", "internal", "no message"),
    Case("wrong_shape", "internal", "expected shape (N), got float32 (2, 2)"),
    Case("wrong_dtype", "internal", "expected dtype float32, got float64"),
    Case("nan", "internal", "contains NaN"),
    Case("missing_output", "internal", "output troubled was not returned"),
    Case("surplus_output", "internal", "output more is not declared"),
    Case("no_mapping", "internal", "run returned list, no mapping of its outputs"),
    Case("half_written", "crashed", "SIGKILL", attempts=2),
    Case("disk_full", "disk_full", "No space left on device"),
    Case("gpu_fault", "gpu_fault", "illegal memory access"),
    Case("no_gpu_support", "gpu_unavailable", "Not compiled with GPU support"),
    Case("import_error", "missing_dependency", "libcudart.so"),
    Case("escape", "internal", "may not write: ../../escaped.npy"),
    Case("load_raise", "internal", "RuntimeError: deliberate"),
    Case("load_segfault", "crashed", "before it was ready", attempts=2),
]


ALONE = ("bad_input", "segfault", "garbage", "escape", "load_raise", "load_segfault")
"""Cases with a run of their own: how it ends, and what would spoil a process for other jobs."""
TOGETHER = [case for case in CASES if case.mode not in ALONE]


@pytest.mark.parametrize("case", [c for c in CASES if c.mode in ALONE], ids=lambda case: case.mode)
def test_a_fault_ends_in_its_kind_a_clear_message_and_an_exit_code(
    case, kiss3d, picture, config_file, tmp_path
):
    out = tmp_path / "out"
    done = kiss3d("run", picture, "--config", config_file(mode=case.mode), "--output", out)
    assert done.returncode == case.exit_code, done.stderr
    assert_recorded(case, out)
    assert case.says in done.stderr
    assert "Traceback" not in done.stderr
    assert "->" in done.stderr, "an error must say what to do next"
    assert not (tmp_path / "escaped.npy").exists()


def test_in_a_batch_each_fault_is_its_own_jobs(kiss3d, config_file, tmp_path):
    config = config_file(modes=[case.mode for case in TOGETHER])
    jobs = numbered(tmp_path, len(TOGETHER))
    done = kiss3d("batch", *jobs, "--config", config, "--output", "out")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for number, case in enumerate(TOGETHER):
        assert_recorded(case, tmp_path / "out" / f"job{number}")
        assert case.says in done.stderr


def assert_recorded(case, out):
    nodes = json.loads((out / "run.json").read_text())["nodes"]
    record = nodes["trouble"]
    assert record["state"] == "failed", case
    assert [row["outcome"] for row in record["attempts"]] == [case.kind] * case.attempts, case
    assert case.says in record["attempts"][-1]["message"]
    assert nodes["source"]["state"] == "done", "what was computed before the fault is kept"
    assert leftovers(out) == []


def numbered(folder, count):
    """A folder of as many "pictures", each with its own number from 0."""
    pictures = folder / "pictures"
    pictures.mkdir()
    for number in range(count):
        (pictures / f"job{number}.txt").write_text(str(number))
    return (pictures, "--glob", "*.txt")


@pytest.mark.parametrize("option", [(), ("--no-warm",)], ids=["warm", "cold"])
def test_a_crash_that_does_not_come_again_costs_one_attempt(option, kiss3d, config_file, tmp_path):
    modes = ["segfault", "killed", "exit0", "half_written"]
    config = config_file(modes=modes, flag=str(tmp_path / "flag"))
    jobs = numbered(tmp_path, len(modes))
    done = kiss3d("batch", *jobs, "--config", config, "--output", "out", *option)
    assert done.returncode == 0, done.stderr
    for number in range(len(modes)):
        assert_one_attempt_more(tmp_path / "out" / f"job{number}")


@pytest.mark.parametrize("option", [(), ("--no-warm",)], ids=["warm", "cold"])
def test_a_crash_while_it_loads_costs_one_attempt(option, kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    config = config_file(mode="load_segfault", flag=str(tmp_path / "flag"))
    # Started ahead it may crash before its job is ready, which then costs nothing.
    options = (*option, "--set", "runtime.prefetch=false")
    done = kiss3d("run", picture, "--config", config, "--output", out, *options)
    assert done.returncode == 0, done.stderr
    assert_one_attempt_more(out)


def assert_one_attempt_more(out):
    rows = json.loads((out / "run.json").read_text())["nodes"]["trouble"]["attempts"]
    assert [row["outcome"] for row in rows] == ["crashed", "done"]
    assert rows[0]["pid"] != rows[1]["pid"]
    assert rows[0]["move"].startswith("repeat: the process died; try 2 of 2")
    assert leftovers(out) == []


@pytest.mark.parametrize("mode", ["load_raise", "load_segfault"])
def test_a_load_that_fails_ahead_of_time_costs_a_job_that_waits_nothing(
    mode, picture, config_file, tmp_path
):
    """Its input is still being computed: it has tried nothing, and the one rung works next time."""
    out, failed = tmp_path / "out", tmp_path / "failed"
    config = config_file(
        mode=mode,
        flag=str(tmp_path / "flag"),
        attempts=[{"tries": 1}],
        source={"until": str(failed)},
    )
    process = start(tmp_path, "run", picture, "--config", config, "--output", out)
    wait_for(lambda: seen(out, "gone", "trouble"))
    failed.touch()
    stderr = finish(process)
    assert process.returncode == 0, stderr
    rows = json.loads((out / "run.json").read_text())["nodes"]["trouble"]["attempts"]
    assert [row["outcome"] for row in rows] == ["done"]
    assert leftovers(out) == []


@pytest.mark.parametrize(
    ("mode", "limits", "kind", "says"),
    [
        ("sleep", {"timeout": 3.0}, "timed_out", "running took longer than 3 s"),
        ("load_hang", {"load_timeout": 1.0}, "timed_out", "loading took longer than 1 s"),
        ("ignore_sigterm", {"timeout": 3.0}, "timed_out", "running took longer"),
        ("hang", {"runtime": {"heartbeat_timeout": 10.0}}, "crashed", "no heartbeat for 10 s"),
    ],
)
def test_a_stage_that_hangs_is_killed_and_says_which_limit_it_broke(
    mode, limits, kind, says, kiss3d, picture, config_file, tmp_path
):
    out = tmp_path / "out"
    config = config_file(mode=mode, flag=str(tmp_path / "flag"), **limits)
    once = mode in ("hang", "load_hang")
    if once:  # only the hanging try may be judged by so short a silence
        config = config_file(mode=mode, attempts=[{"tries": 1}], **limits)
    done = kiss3d("run", picture, "--config", config, "--output", out)
    rows = json.loads((out / "run.json").read_text())["nodes"]["trouble"]["attempts"]
    assert rows[0]["outcome"] == kind
    assert says in rows[0]["message"]
    assert done.returncode == (1 if once else 0), done.stderr


def test_a_grandchild_dies_with_its_stage(kiss3d, picture, config_file, tmp_path):
    config = config_file(mode="grandchild", timeout=0.5, attempts=[{"tries": 1}])
    done = kiss3d("run", picture, "--config", config, "--output", tmp_path / "out")
    assert done.returncode == 1
    # The fixture `nothing_left` cannot see a grandchild whose parents are gone.
    assert of_this_session("sleep", "3600") == []


def test_noise_on_stdout_goes_to_the_log_and_nowhere_else(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    done = kiss3d("run", picture, "--config", config_file(mode="print"), "--output", out, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "done"
    assert (out / "trouble" / "attempt-1.log").stat().st_size >= 100_000


def test_the_ladder_ends_on_a_rung_that_works_and_the_result_is_labelled(
    kiss3d, picture, config_file, tmp_path
):
    out = tmp_path / "out"
    attempts = [
        {"params": {"mode": "raise"}},
        {"params": {"mode": "oom"}},
        {"params": {"mode": "ok"}, "degraded": "half the colours"},
    ]
    done = kiss3d("run", picture, "--config", config_file(attempts=attempts), "--output", out)
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "run.json").read_text())["nodes"]["trouble"]
    assert [row["outcome"] for row in record["attempts"]] == ["internal", "out_of_memory", "done"]
    assert [row["rung"] for row in record["attempts"]] == [0, 1, 2]
    assert len({row["pid"] for row in record["attempts"]}) == 3
    assert record["degraded"] == "half the colours"
    assert "degraded: trouble: half the colours" in done.stderr
    assert "next rung: this rung needs more memory" in done.stderr


def test_a_gpu_rung_falls_to_the_cpu_where_there_is_no_gpu(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    config = config_file(attempts=[{"device": "cuda"}, {"device": "cpu"}])
    done = kiss3d("run", picture, "--config", config, "--output", out)
    assert done.returncode == 0, done.stderr
    rows = json.loads((out / "run.json").read_text())["nodes"]["trouble"]["attempts"]
    assert [row["outcome"] for row in rows] == ["gpu_unavailable", "done"]
    assert rows[0]["pid"] == 0, "no process is needed to find that there is no GPU"
