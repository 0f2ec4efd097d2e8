"""What uv and pip print becomes one line that says how far they are."""

from __future__ import annotations

import pytest
from _progress import Progress

CLEAR = "\x1b[2A\r\x1b[2K\x1b[1B\r\x1b[2K\x1b[2A"


def said(progress: Progress, after_s: float) -> str:
    return progress.text(progress._start + after_s).split("s  ", 1)[1]


def test_bars_add_up_to_bytes_percent_and_the_time_left() -> None:
    progress = Progress("installing packages")
    pad = " " * 90
    bar = "------------------------------"
    torch, numpy = f"torch {bar} ", f"{pad}numpy {bar} "
    frames = [
        f"⠙ Preparing packages... (0/3){pad}{torch}    0 B/1.00 GiB{pad}",
        f"⠙ Preparing packages... (1/3){pad}{torch}256.00 MiB/1.00 GiB{numpy}512.00 KiB/1.00 MiB",
    ]
    for frame in frames:
        assert progress.saw(f"{CLEAR}{frame}\n") == "", "bars do not go into the log"
    text = said(progress, 10)
    assert text == "1/3 packages, 0.27 of 1.07 GB (25%), about 30 s more"

    progress.saw(f"{CLEAR}⠙ Preparing packages... (2/3){pad}numpy {bar} 512.00 KiB/1.00 MiB{pad}\n")
    assert "(100%)" in said(progress, 40), "a bar that has gone is a download that has arrived"
    progress.saw("\r░░░░░░░░░░░░░░░░░░░░ [2/3] numpy==2.4.6\n")
    assert said(progress, 60) == "2/3 packages"


def test_announced_sizes_do_where_there_is_no_terminal_for_uv() -> None:
    progress = Progress("installing packages")
    lines = ["Downloading torch (300.0MiB)", "Downloading scipy (100.0MiB)", " Downloaded scipy"]
    assert [progress.saw(f"{line}\n") for line in lines] == [line.strip() for line in lines]
    assert said(progress, 5) == "Downloaded scipy, 0.10 of 0.42 GB (25%), about 15 s more"


def test_without_figures_the_last_line_is_shown() -> None:
    progress = Progress("installing packages with pip")
    assert said(progress, 0) == "installing packages with pip"
    progress.saw("Collecting torch==2.12.1 (from -r run.txt (line 9))\n")
    assert said(progress, 0) == "Collecting torch==2.12.1 (from -r run.txt (line 9))"


def test_a_pipe_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress("installing packages")
    for now[0] in range(25):
        progress.saw("⠙ Preparing packages... (0/3)\n")
    progress.close()
    assert capsys.readouterr().err.splitlines() == [
        "kiss3d-orchestrate:   10 s  0/3 packages",
        "kiss3d-orchestrate:   20 s  0/3 packages",
    ]
