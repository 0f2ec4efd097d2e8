"""What a person at a terminal sees, and what a pipe gets."""

from __future__ import annotations

import os
import pty
import re
import subprocess

from devtools.fakes.tools import cli_environment, command
from devtools.patience import PATIENCE


def on_a_terminal(tmp_path, *arguments) -> tuple[str, int]:
    """Run a command with a pseudo terminal as stdout and stderr; (what was shown, exit code)."""
    main, side = pty.openpty()
    process = subprocess.Popen(
        command(*arguments),
        cwd=tmp_path,
        stdin=side,
        stdout=side,
        stderr=side,
        env={**cli_environment(), "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
    )
    os.close(side)
    shown = b""
    while True:
        try:
            chunk = os.read(main, 65536)
        except OSError:  # Linux says EIO when the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    os.close(main)
    return shown.decode(errors="replace"), process.wait(timeout=PATIENCE)


def plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


def test_a_terminal_shows_a_live_row_a_node_and_a_table_at_the_end(picture, config_file, tmp_path):
    config = config_file(seconds=3.0)
    shown, code = on_a_terminal(
        tmp_path, "run", picture, "--config", config, "--output", tmp_path / "out"
    )
    text = plain(shown)
    assert code == 0, text
    assert "\x1b[" in shown
    assert re.search(r"trouble +running +\d+/150", text), "state and step/total while it runs"
    assert re.search(r"node +state +on +wall s", text), "the table at the end"
    assert str(tmp_path / "out") in text


def test_a_terminal_shows_why_a_node_is_tried_again(picture, config_file, tmp_path):
    config = config_file(mode="segfault", flag=str(tmp_path / "flag"))
    shown, code = on_a_terminal(
        tmp_path, "run", picture, "--config", config, "--output", tmp_path / "out"
    )
    text = re.sub(r"\s+", " ", plain(shown))
    assert code == 0
    assert "SIGSEGV" in text
    assert "repeat: the process died; try 2 of 2" in text


def test_a_pipe_gets_plain_lines(kiss3d, picture, config_file, tmp_path):
    done = kiss3d("run", picture, "--config", config_file(), "--output", tmp_path / "out")
    assert "\x1b" not in done.stderr + done.stdout
    assert re.search(r"\[ +\d+\.\d\ds\] trouble: done in", done.stderr)


def test_no_color_is_heeded(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    shown, code = on_a_terminal(tmp_path, "doctor")
    assert code == 0
    assert "python" in shown
    assert "\x1b[" not in shown
