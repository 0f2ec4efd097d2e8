"""The one place that writes to the terminal.

Messages hold what others wrote: stages, file names, records of runs. On a terminal some of their
characters would act instead of being seen, so these are spelled out; log files and JSON keep them.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from orchestrator.errors import KissError

if TYPE_CHECKING:
    from rich.console import Console


class ReaderGoneError(BrokenPipeError):
    """Whoever read stdout has seen enough: `| head`."""


_ACTING = re.compile(
    "["
    "\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls but tab and line feed; ESC, CSI
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # turn the direction of the text
    "\u2028\u2029\ufeff\U000e0000-\U000e007f"  # break lines, or are not seen at all
    "\ud800-\udfff"  # bytes of a file's name that are no UTF-8
    "]"
)

_COMMAND = re.compile(r"(?<![\w./\\-])kiss3d-orchestrate(?= [a-z-])")


def visible(text: str, one_line: bool = False) -> str:
    """The text with characters that act on a terminal spelled out: ESC becomes `\\x1b`.

    one_line: line feeds and tabs too, for a cell of a table.
    """
    with contextlib.suppress(UnicodeEncodeError):
        # Where the locale knows ASCII alone, the bytes of any other letter come as surrogates.
        text = text.encode(errors="surrogateescape").decode(errors="surrogateescape")
    told = _ACTING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return told.replace("\n", r"\n").replace("\t", r"\t") if one_line else told


def as_typed(text: str) -> str:
    """Commands of this program in a text as they can be typed here: a clone's launcher tells how
    it was started, since its folder is not on the PATH as a rule."""
    called = os.environ.get("KISS3D_CALLED_AS", "")
    if sys.platform != "win32":
        called = called and shlex.quote(called)
    elif " " in called:
        called = f'"{called}"'
    return _COMMAND.sub(lambda _: called, text) if called else text


def shortened(text: str, width: int) -> str:
    """At most `width` columns of a text: its beginning, "…" and its end."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    head = (width - 1) // 2
    tail = text
    while cell_len(tail) > width - 1 - head:
        tail = tail[1:]
    return f"{set_cell_size(text, head).rstrip()}…{tail}"


def say(text: object = "", *, err: bool = False, mark: str = "", colour: str = "") -> None:
    """Write a line to stdout or stderr, behind `mark`, which a terminal shows in a colour; in what
    goes to stderr, commands are as the user types them.

    Raises `KissError` when stdout cannot be written, `ReaderGoneError` when nobody reads it; what
    stderr does not take is lost.
    """
    stream = sys.stderr if err else sys.stdout
    if err:
        text = as_typed(str(text))
    if mark and colour and stream.isatty() and not os.environ.get("NO_COLOR"):
        import click

        click.echo(click.style(mark, fg=colour), err=err, nl=False)
        mark = ""
    say_to(stream, f"{mark}{text}")


def say_on(text: str, *, err: bool) -> None:
    """Write a piece of what a process prints; a bar that is drawn over itself becomes lines."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    _write(sys.stderr if err else sys.stdout, visible(lines))


def say_to(stream: TextIO, text: str) -> None:
    """Write a line to a stream. Raises as `say`."""
    _write(stream, visible(text) + "\n")


def say_json(value: Any) -> None:
    """Write one JSON document to stdout. A number that is none (NaN) becomes null."""
    text = json.dumps(_with_numbers(value), indent=1, default=str)
    _write(sys.stdout, text.replace("\x7f", "\\u007f") + "\n")


def _with_numbers(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _with_numbers(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_numbers(item) for item in value]
    return value


def _write(stream: TextIO, text: str) -> None:
    try:
        try:
            stream.write(text)
        except UnicodeEncodeError:  # the stream of somebody who has put their own in its place
            stream.write(text.encode("ascii", "backslashreplace").decode())
        stream.flush()
    except BrokenPipeError as error:
        raise ReaderGoneError(*error.args) from error
    except OSError as error:  # stdout goes to a full disk
        drop_stdout()
        raise KissError(f"cannot write the output: {error.strerror or error}") from error


def open_console(err: bool = False, file: TextIO | None = None) -> Console:
    """rich's console: tables and bars on a terminal, or into `file`; texts must be `visible`."""
    from rich.console import Console

    return Console(stderr=err, file=file, markup=False, highlight=False, emoji=False)


class _Patient(io.TextIOBase):
    """stderr that never fails: a full disk or a reader who has gone costs messages, not the run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: Sequence[str]) -> None:  # type: ignore[override]
        self.write("".join(lines))

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._stream.errors

    @property
    def buffer(self) -> Any:
        return self._stream.buffer


@contextlib.contextmanager
def nobody_need_read(where: str) -> Iterator[None]:
    """Go on when whoever reads stdout has gone (`| head`): stderr says then where things are."""
    try:
        yield
    except ReaderGoneError:
        drop_stdout()
        say(f"nobody reads the output any more; see {where}", err=True)


def drop_stdout() -> None:
    """What stdout still holds cannot be written; at exit Python would try again and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def prepare_streams() -> None:
    """Called once, as the program starts.

    A closed stdin, stdout or stderr becomes the null device: otherwise the next file or socket that
    is opened would get its number, and whatever a library or a child prints.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            ascii_alone = stream.encoding.lower() in ("ascii", "ansi_x3.4-1968", "us-ascii")
            encoding = "utf-8" if ascii_alone else None  # as Python's own UTF-8 mode has it
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
    if not isinstance(sys.stderr, _Patient):
        sys.stderr = _Patient(sys.stderr)
