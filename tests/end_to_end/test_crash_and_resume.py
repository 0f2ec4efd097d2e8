"""The parent may be killed at any moment: `resume` goes on and redoes no finished node."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from devtools.fakes.tools import cli_environment, command, leftovers
from devtools.patience import PATIENCE, eventually
from orchestrator.system.private_folders import sweep_private_folders


def start(tmp_path: Path, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(*arguments),
        cwd=tmp_path,
        env=cli_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def events(out: Path) -> list[dict]:
    file = out / "events.jsonl"
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text().splitlines() if line.endswith("}")]


def seen(out: Path, kind: str, node: str) -> bool:
    return any(e["event"] == kind and e.get("node") == node for e in events(out))


def family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def finish(process: subprocess.Popen[bytes]) -> str:
    return process.communicate(timeout=PATIENCE)[1].decode()


@pytest.mark.parametrize("start_option", [(), ("--no-warm",)], ids=["warm", "cold"])
def test_no_process_outlives_a_killed_parent(start_option, picture, config_file, tmp_path):
    out = tmp_path / "out"
    config = config_file(mode="sleep")
    process = start(tmp_path, "run", picture, "--config", config, "--output", out, *start_option)
    eventually(lambda: seen(out, "started", "trouble"))
    members = family(process.pid)
    assert len(members) >= 2
    process.kill()
    gone, alive = psutil.wait_procs(members[1:], timeout=PATIENCE)
    assert not alive
    finish(process)
    sweep_private_folders()  # what a killed parent cannot do, the next start does


MOMENTS = [
    ("begin", None),
    ("started", "source"),
    ("done", "source"),
    ("started", "trouble"),
    ("done", "trouble"),
    ("started", "sink"),
]


@pytest.mark.parametrize(("kind", "node"), MOMENTS, ids=[f"{k}-{n}" for k, n in MOMENTS])
def test_a_killed_run_resumes_without_redoing_finished_nodes(
    kind, node, kiss3d, picture, config_file, tmp_path
):
    out = tmp_path / "out"
    counts = {name: tmp_path / f"{name}.count" for name in ("source", "trouble")}
    config = config_file(
        seconds=0.2,
        count_file=str(counts["trouble"]),
        source={"seconds": 0.2, "count_file": str(counts["source"]), "repeat": 400_000},
    )
    process = start(tmp_path, "run", picture, "--config", config, "--output", out)
    eventually(lambda: any(e["event"] == kind and e.get("node") == node for e in events(out)))
    os.kill(process.pid, signal.SIGKILL)
    finish(process)
    finished = [
        name
        for name, record in json.loads((out / "run.json").read_text())["nodes"].items()
        if record["state"] == "done"
    ]
    computed = {name: len(c.read_text().split()) if c.exists() else 0 for name, c in counts.items()}
    done = kiss3d("resume", out)
    assert done.returncode == 0, done.stderr
    assert (out / "sink" / "total.txt").read_text() == "3.6e+06 seed 42"
    for name, count in counts.items():
        more = len(count.read_text().split()) - computed[name]
        assert more == (0 if name in finished else 1)
    assert leftovers(out) == []


def test_a_finished_run_resumes_to_nothing_at_all(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    counter = tmp_path / "count"
    config = config_file(count_file=str(counter))
    assert kiss3d("run", picture, "--config", config, "--output", out).returncode == 0
    done = kiss3d("resume", out)
    assert done.returncode == 0
    assert done.stderr.count("unchanged, taken from this run") == 3
    assert len(counter.read_text().split()) == 1


def test_a_damaged_artifact_is_computed_again(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    assert kiss3d("run", picture, "--config", config_file(), "--output", out).returncode == 0
    file = out / "trouble" / "troubled.npy"
    file.write_bytes(file.read_bytes()[:-4])
    done = kiss3d("resume", out)
    assert done.returncode == 0, done.stderr
    assert "source: unchanged" in done.stderr
    assert "trouble: done" in done.stderr


def test_ctrl_c_once_stops_cleanly_and_can_be_resumed(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    flag = tmp_path / "flag"
    config = config_file(mode="sleep", flag=str(flag))
    process = start(tmp_path, "run", picture, "--config", config, "--output", out)
    eventually(flag.exists)
    members = family(process.pid)
    process.send_signal(signal.SIGINT)
    stderr = finish(process)
    assert process.returncode == 130
    assert "stopping; Ctrl-C again stops at once" in stderr
    assert f"kiss3d-orchestrate resume {out}" in stderr
    assert not psutil.wait_procs(members, timeout=PATIENCE)[1]
    assert json.loads((out / "run.json").read_text())["state"] == "interrupted"
    assert leftovers(out) == []
    assert kiss3d("resume", out).returncode == 0


def test_ctrl_c_twice_does_not_wait_for_a_stubborn_stage(picture, config_file, tmp_path):
    out = tmp_path / "out"
    flag = tmp_path / "flag"
    grace = 4 * PATIENCE
    config = config_file(mode="ignore_sigterm", flag=str(flag), runtime={"stop_grace": grace})
    process = start(tmp_path, "run", picture, "--config", config, "--output", out)
    eventually(flag.exists)
    members = family(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while b"Ctrl-C again stops at once" not in (line := process.stderr.readline()):
        assert line, "it ended without a word"
    assert process.poll() is None, "one Ctrl-C grants the stage its grace period"
    process.send_signal(signal.SIGINT)
    finish(process)
    assert process.returncode == 130
    assert not psutil.wait_procs(members, timeout=PATIENCE)[1]
    assert leftovers(out) == []


def test_sigterm_stops_like_ctrl_c(picture, config_file, tmp_path):
    out = tmp_path / "out"
    process = start(
        tmp_path, "run", picture, "--config", config_file(mode="sleep"), "--output", out
    )
    eventually(lambda: seen(out, "started", "trouble"))
    process.terminate()
    assert "resume" in finish(process)
    assert process.returncode == 143


def test_two_runs_cannot_work_in_one_directory(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    config = config_file(mode="sleep")
    process = start(tmp_path, "run", picture, "--config", config, "--output", out)
    eventually(lambda: seen(out, "started", "trouble"))
    second = kiss3d("resume", out)
    assert second.returncode == 2
    assert "another process is working in" in second.stderr
    process.send_signal(signal.SIGINT)
    finish(process)
