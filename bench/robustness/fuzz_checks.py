"""What `bench/robustness/fuzz.py` holds the end of a command to, and a watch over what the command
writes."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

CPU_SECONDS = 10.0
MEMORY = 512 << 20
HANG_SECONDS = 300.0
MINE = "outputs/run/mine.txt"
"""A file of the user's own, which nothing removes."""


def snapshot(root: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below a folder, with what a change of it would change."""
    found: dict[str, tuple[Any, ...]] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            seen = os.lstat(path)
            times = () if name in folders else (seen.st_size, seen.st_mtime_ns, seen.st_ino)
            found[os.path.relpath(path, root)] = (seen.st_mode, *times)
    return found


def changes(before: dict[str, Any], after: dict[str, Any], inside: Collection[str]) -> str:
    """What has changed outside of the entries `inside`, or ""."""
    names = [n for n in {*before, *after} if before.get(n) != after.get(n)]
    names = [n for n in names if n.split(os.sep)[0] not in inside]
    if MINE in before and MINE not in after:
        names.append(MINE)
    return f"touched: {', '.join(sorted(names)[:5])}" if names else ""


def wrong_end(code: int | None, text: str, cpu: float, memory: int) -> str:
    """What is wrong with how a command ended, or ""."""
    if code is None:
        return f"hang: no end after {HANG_SECONDS:g} s"
    if code not in (0, 1, 2):
        return f"crash: exit code {code}: {text[-300:]}"
    if "Traceback" in text or "unexpected: " in text:
        return f"traceback: {text[-500:]}"
    if found := re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text):
        return f"control character {found[0]!r}: {text[max(0, found.start() - 60) : found.end()]!r}"
    if cpu > CPU_SECONDS:
        return f"{cpu:.1f} s of CPU time"
    if memory > MEMORY:
        return f"{memory >> 20} MiB"
    return ""


_CHANGES = {
    "open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink",
    "os.truncate", "os.chmod", "os.chown", "os.utime", "shutil.rmtree",
}  # fmt: skip


def watch(base: Path) -> None:
    """In the fork: end it at a change outside of the folder, before it happens."""
    root = os.path.realpath(base)

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "pickle.find_class":
            _tell_and_end(f"unpickles {arguments}")
        if event not in _CHANGES:
            return
        if event == "open":
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
                return
        count = 2 if event in ("os.rename", "os.link") else 1
        for place in arguments[:count]:
            if not isinstance(place, str | bytes):
                continue
            _look(event, os.fsdecode(place), _folder(event, arguments), root)

    sys.addaudithook(heard)


def _folder(event: str, arguments: Sequence[Any]) -> str:
    """What a relative path is below."""
    at = {"os.mkdir": 2, "os.remove": 1, "os.rmdir": 1, "os.rename": 2}.get(event)
    number = arguments[at] if at is not None and len(arguments) > at else -1
    if isinstance(number, int) and number >= 0:
        return os.readlink(f"/proc/self/fd/{number}")
    return os.getcwd()


def _look(event: str, place: str, folder: str, root: str) -> None:
    path = os.path.join(folder, place)
    parent = os.path.realpath(os.path.dirname(path))
    if path not in (os.devnull, "/dev/tty") and not f"{parent}/".startswith(f"{root}/"):
        _tell_and_end(f"{event} of {path}")


def _tell_and_end(what: str) -> None:
    os.write(2, f"outside: {what}\n".encode(errors="replace"))
    os._exit(97)
