"""What others wrote does not act on a terminal, and a stream that fails costs messages alone."""

from __future__ import annotations

import ast
import io
import json
import sys
from pathlib import Path

import pytest

from orchestrator.cli.live_view import Lines
from orchestrator.cli.tables import print_table
from orchestrator.errors import KissError
from orchestrator.running.run_events import RunEvent
from orchestrator.system.terminal import as_typed, say, say_json, visible

ACTING = [
    *map(chr, [*range(9), *range(11, 32), *range(127, 160)]),
    *"\u202e\u2066\u200f\u2028\ufeff",
]
FOLDER = Path(__file__).resolve().parents[3] / "orchestrator"


@pytest.mark.parametrize("sign", ACTING, ids=ascii)
def test_signs_that_act_on_a_terminal_are_spelled_out(sign: str) -> None:
    shown = visible(f"a{sign}[31mb")
    assert sign not in shown
    assert shown == f"a{sign.encode('unicode_escape').decode()}[31mb"


def test_letters_of_all_scripts_and_line_ends_stay() -> None:
    text = "größe 写真 עברית 👩‍👩‍👧\n\tnext"
    assert visible(text) == text
    assert visible(text, one_line=True).endswith(r"\n\tnext")


def test_a_name_that_is_no_utf8_is_spelled_out_and_one_that_is_comes_back() -> None:
    assert visible("caf\udce9") == r"caf\udce9"
    assert visible("caf\udcc3\udca9") == "café"  # as an ASCII locale has it


def test_a_table_shows_no_markup_and_no_control(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("name", "error"), [("[red]x[/red]", "a\x1b]0;title\x07\nb")])
    shown = capsys.readouterr().out
    assert "[red]x[/red]" in shown
    assert r"a\x1b]0;title\x07\nb" in shown


@pytest.mark.parametrize("columns", [40, 200])
def test_a_table_on_a_terminal_does_so_too(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    print_table(("name", "error"), [("[red]x[/red]", "a\x1b[2Jb :smile:")], shorten=(1,))
    shown = capsys.readouterr().out
    assert "[red]x[/red]" in shown
    assert "\x1b[2J" not in shown
    assert ":smile:" in shown or "…" in shown


def test_what_a_stage_says_is_shown_and_does_nothing() -> None:
    stream = io.StringIO()
    fields = {"kind": "internal", "message": "\x1b[2Jgone", "move": "end", "log": "x\x07"}
    Lines(stream, 2).notify(RunEvent("failed", "job", "node", fields))
    assert r"\x1b[2Jgone" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()
    assert "\x07" not in stream.getvalue()


def test_json_is_valid_whatever_it_holds(capsys: pytest.CaptureFixture[str]) -> None:
    value = {
        "a\x1b": "\x7f\u202e\ud800",
        "nan": float("nan"),
        "inf": [float("inf")],
        "path": FOLDER,
    }
    say_json(value)
    text = capsys.readouterr().out
    assert text.isascii()
    assert "\x7f" not in text
    told = json.loads(text)
    assert told["a\x1b"] == "\x7f\u202e\ud800"
    assert told["nan"] is None
    assert told["inf"] == [None]


def test_a_full_stdout_is_an_error_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("orchestrator.system.terminal.drop_stdout", lambda: None)
    monkeypatch.setattr(sys, "stdout", Full())
    with pytest.raises(KissError, match="cannot write the output: No space left on device"):
        say("x")


@pytest.mark.parametrize(
    "file", sorted(FOLDER.rglob("*.py")), ids=lambda file: str(file.relative_to(FOLDER))
)
def test_one_place_prints(file: Path) -> None:
    """No other module of the parent writes to the terminal by itself."""
    if file.name == "terminal.py":
        return
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("print", "click.echo", "click.secho", "Console"), called
            assert not called.startswith(("sys.stdout.write", "sys.stderr.write")), called
            assert not called.startswith("sys.stderr.buffer"), called


def test_commands_in_messages_are_as_the_user_types_them(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KISS3D_CALLED_AS", "bin/kiss3d-orchestrate")
    told = "`kiss3d-orchestrate runs list`; in /tmp/kiss3d-orchestrate logs"
    say(told, err=True)
    say(told)
    shown = capsys.readouterr()
    assert shown.out == told + "\n"
    assert shown.err == told.replace("`kiss3d", "`bin/kiss3d") + "\n"


@pytest.mark.parametrize(
    ("platform", "typed"),
    [
        ("linux", "'/my tools/kiss3d-orchestrate' run"),
        ("win32", '"/my tools/kiss3d-orchestrate" run'),
    ],
)
def test_a_launcher_in_a_folder_with_a_space_is_quoted(
    monkeypatch: pytest.MonkeyPatch, platform: str, typed: str
) -> None:
    monkeypatch.setenv("KISS3D_CALLED_AS", "/my tools/kiss3d-orchestrate")
    monkeypatch.setattr(sys, "platform", platform)
    assert as_typed("kiss3d-orchestrate run") == typed
