"""SIGINT, SIGTERM and SIGHUP at any moment: the documented exit code, and nothing left behind."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from devtools.fakes.running import alive, below, finish, seen, start, wait_for
from devtools.fakes.tools import cli_environment, command, leftovers
from devtools.patience import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no such signals there")
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
EACH = pytest.mark.parametrize("number", list(CODES), ids=lambda number: number.name)

STALLED = """
import pathlib, time
pathlib.Path({flag!r}).touch()
time.sleep(3600)
"""


def stalling(tmp_path, module: str):
    """An environment in which the import of `module` stalls, and the file that tells it began."""
    folder, flag = tmp_path / "stalling", tmp_path / "stalled"
    folder.mkdir()
    (folder / f"{module}.py").write_text(STALLED.format(flag=str(flag)))
    path = os.pathsep.join([str(folder), cli_environment()["PYTHONPATH"]])
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    return {"PYTHONPATH": path, "TMPDIR": str(temporary)}, flag


@EACH
@pytest.mark.parametrize("module", ["click", "yaml"], ids=["at_the_start", "in_a_command"])
def test_a_signal_while_the_program_is_still_importing(
    number, module, picture, config_file, tmp_path
):
    """click is the first library that it imports, yaml comes when the processes are started."""
    environment, flag = stalling(tmp_path, module)
    process = start(tmp_path, "run", picture, "--config", config_file(), **environment)
    wait_for(flag.exists)
    family = [child.pid for child in below(process.pid)]
    process.send_signal(number)
    assert "Traceback" not in finish(process)
    assert process.returncode == CODES[number]
    wait_for(lambda: alive(family) == [])
    wait_for(lambda: list((tmp_path / "tmp").iterdir()) == [])


def test_ctrl_c_before_there_is_a_handler_for_it(tmp_path):
    """threading is among the first modules that are imported, those of the handler's own."""
    environment, flag = stalling(tmp_path, "threading")
    process = start(tmp_path, "--help", **environment)
    wait_for(flag.exists)
    process.send_signal(signal.SIGINT)
    assert finish(process) == ""
    assert process.returncode == 130


@EACH
def test_a_signal_while_a_stage_computes(number, kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    config = config_file(mode="sleep", flag=str(tmp_path / "flag"))
    process = start(tmp_path, "run", picture, "--config", config, "--output", out)
    wait_for((tmp_path / "flag").exists)
    process.send_signal(number)
    stderr = finish(process)
    assert process.returncode == CODES[number]
    assert f"kiss3d-orchestrate resume {out}" in stderr
    assert leftovers(out) == []
    assert kiss3d("resume", out).returncode == 0


@EACH
def test_a_signal_while_one_stage_runs_by_itself(number, picture, config_file, tmp_path, kiss3d):
    out = tmp_path / "out"
    assert kiss3d("run", picture, "--config", config_file(), "--output", out).returncode == 0
    flag = tmp_path / "flag"
    other = tmp_path / "other"
    options = ("--set", "mode=sleep", "--set", f"flag={flag}")
    process = start(tmp_path, "stage", "trouble", "--run", out, "--output", other, *options)
    wait_for(flag.exists)
    family = [child.pid for child in below(process.pid)]
    process.send_signal(number)
    assert "Traceback" not in finish(process)
    assert process.returncode == CODES[number]
    wait_for(lambda: alive(family) == [])


@pytest.mark.parametrize("pause", [0.0, 0.03, 0.2])
def test_many_signals_change_nothing_about_the_code(pause, picture, config_file, tmp_path):
    out = tmp_path / "out"
    config = config_file(mode="sleep")
    process = start(tmp_path, "run", picture, "--config", config, "--output", out)
    wait_for(lambda: seen(out, "started", "trouble"))
    family = [child.pid for child in below(process.pid)]
    process.terminate()
    # Signals that wait together may be delivered in another order.
    while b"stopping" not in (line := process.stderr.readline()):
        assert line, "it ended without a word"
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGHUP)
        time.sleep(pause)
    assert "Traceback" not in finish(process)
    assert process.returncode == CODES[signal.SIGTERM]
    wait_for(lambda: alive(family) == [])


def test_a_terminal_that_is_closed_ends_the_run(picture, config_file, tmp_path):
    out, folder = tmp_path / "out", tmp_path / "tmp"
    folder.mkdir()
    ours, theirs = pty.openpty()
    config = config_file(mode="sleep")
    process = subprocess.Popen(
        [
            *("/bin/sh", "-c", 'exec "$@" <$TTY >$TTY 2>&1', "sh"),
            *command("run", picture, "--config", config, "--output", out),
        ],
        cwd=tmp_path,
        env={**cli_environment(), "TMPDIR": str(folder), "TTY": os.ttyname(theirs)},
        start_new_session=True,
    )
    wait_for(lambda: seen(out, "started", "trouble"))
    family = [child.pid for child in below(process.pid)]
    os.close(theirs)
    os.close(ours)
    assert process.wait(timeout=PATIENCE) == CODES[signal.SIGHUP]
    wait_for(lambda: alive(family) == [])
    wait_for(lambda: list(folder.iterdir()) == [])


def test_nohup_is_respected(picture, config_file, tmp_path):
    out = tmp_path / "out"
    words = command("run", picture, "--config", config_file(seconds=1.0), "--output", out)
    process = subprocess.Popen(
        ["nohup", *words],
        cwd=tmp_path,
        env=cli_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for(lambda: seen(out, "started", "trouble"))
    process.send_signal(signal.SIGHUP)
    finish(process)
    assert process.returncode == 0


HANGING = """
import pathlib, sys, time
from orchestrator.system.locks import directory_lock
from orchestrator.system.stop_signals import STOP
STOP.take_over()
with STOP.deferred(), directory_lock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    while STOP.count == 0:
        time.sleep(0.01)
    print("hangs", flush=True)
    while True:
        time.sleep(0.01)
"""


def test_an_end_by_force_leaves_no_lock_file(tmp_path):
    """What hangs between two signals never gets to its own cleaning."""
    program = [sys.executable, "-c", HANGING, str(tmp_path)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, env=cli_environment()) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert leftovers(tmp_path) != []
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == b"hangs\n"
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE)
    assert process.returncode == CODES[signal.SIGTERM]
    assert leftovers(tmp_path) == []
