"""Tables: whole where they are read by programs, one line a row where a person's screen is."""

from __future__ import annotations

import re
import sys

import pytest
from rich.cells import cell_len

from orchestrator.cli.tables import print_table
from orchestrator.system.terminal import shortened
from orchestrator.system.text import format_table

HEADER = ("picture", "state", "compute s", "mesh")
LONG = "a-very-long-name-of-a-picture-that-somebody-scanned-in-a-museum-in-the-north-0042"
ROWS = [
    (LONG, "done", "12.34", f"outputs/pictures-20260101-120000/{LONG}/result/mesh.glb"),
    ("short", "interrupted", "0.00", "-"),
]


def lines_of(capsys: pytest.CaptureFixture[str], **options: object) -> list[str]:
    print_table(HEADER, ROWS, shorten=(0, 3), **options)  # type: ignore[arg-type]
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_narrow_terminal_gets_one_line_a_row(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    lines = lines_of(capsys)
    assert len(lines) == 1 + len(ROWS)
    assert all(cell_len(line.rstrip()) <= columns for line in lines)
    assert lines[1].startswith("a-ver")
    assert "…" in lines[1]
    assert lines[1].rstrip().endswith("mesh.glb")
    assert "interrupted" in lines[2]


def test_a_hopelessly_narrow_terminal_still_gets_every_column(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    lines = lines_of(capsys)
    assert len(lines) == 1 + len(ROWS)
    assert lines[0].split() == ["picture", "state", "compute", "s", "mesh"]
    assert "12.34" in lines[1]


def test_a_wide_terminal_gets_whole_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert "…" not in "".join(lines_of(capsys))


def test_elsewhere_names_are_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = lines_of(capsys)
    assert ROWS[0][3] in lines[2]


PLAN = ("node", "ladder", "VRAM", "why")
RUNGS = "cuda bfloat16 placement=streamed -> cuda bfloat16 placement=streamed storage=fp8"
PLANNED = [("flux", RUNGS, "8.00 GiB", "reads from encode, reference"), ("prompt", "cpu", "-", "")]


@pytest.mark.parametrize("columns", [30, 44, 60, 80])
def test_no_word_is_broken_on_any_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    print_table(PLAN, PLANNED)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert all(cell_len(line.rstrip()) <= columns for line in shown.splitlines())
    words = {word.strip(";:") for word in shown.split()}
    for row in [PLAN, *PLANNED]:
        assert {word for cell in row for word in cell.split()} - words <= {"node", "-"}


def test_letters_that_take_two_columns_keep_the_table_aligned() -> None:
    rows = [("写真", "done"), ("cafe\u0301", "done")]
    lines = format_table(("name", "state"), rows).splitlines()
    assert [cell_len(line.partition("done")[0]) for line in lines[2:4]] == [6, 6]


@pytest.mark.parametrize("width", range(12, 20))
@pytest.mark.parametrize(
    "text", [LONG, "写真の長い名前がここにあります.png", "café-crème-brûlée.png"]
)
def test_a_shortened_text_keeps_to_its_width_and_both_ends(text: str, width: int) -> None:
    short = shortened(text, width)
    assert cell_len(short) <= width
    assert short[:2] == text[:2]
    assert short[-2:] == text[-2:]
