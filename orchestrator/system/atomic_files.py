"""Whole files: written so that a crash leaves the old content or the new, and their digests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from orchestrator.system.inside import Inside

_CHUNK = 1 << 20


def write_atomic(path: Path, content: bytes | memoryview, durable: bool = True) -> None:
    """Write a temporary file beside `path`, fsync it (if `durable`) and rename it over `path`."""
    Inside(path.parent).write(path.name, content, durable)


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    write_atomic(path, json_bytes(value), durable)


def write_long_json(
    path: Path, head: Mapping[str, Any], last: str, entries: Iterable[tuple[str, Any]]
) -> None:
    """As `write_json` of `head` with one more key, `last`, whose value has these entries: they come
    one by one, and together they may be more than should be in memory."""
    with Inside(path.parent).replacing(path.name) as stream:
        stream.write(json.dumps(head, indent=1).removesuffix("\n}").encode())
        stream.write(f",\n {json.dumps(last)}: {{".encode())
        between = "\n"
        for name, value in entries:
            lines = json.dumps({name: value}, indent=1).splitlines()[1:-1]
            stream.write((between + "\n".join(f" {line}" for line in lines)).encode())
            between = ",\n"
        stream.write(b"\n }\n}\n")


def json_bytes(value: Any) -> bytes:
    """A JSON document as this program's files hold it."""
    return (json.dumps(value, indent=1) + "\n").encode()


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable; Windows has no such call and needs none."""
    Inside(folder).sync_folder()


def sync_and_digest(path: Path) -> str:
    """fsync a finished file and return its `digest_file`."""
    Inside(path.parent).sync(path.name)
    return digest_file(path)


def digest_file(path: Path) -> str:
    """The content digest of a file ("blake2b:...")."""
    with path.open("rb") as stream:
        return digest_stream(stream)


def digest_stream(stream: IO[bytes]) -> str:
    """The same digest for what is left of a stream."""
    digest = hashlib.blake2b(digest_size=16)
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    return f"blake2b:{digest.hexdigest()}"


def digest_bytes(content: bytes) -> str:
    """The same digest for bytes in memory."""
    return f"blake2b:{hashlib.blake2b(content, digest_size=16).hexdigest()}"


def next_log(folder: Path, stem: str) -> Path:
    """An empty log file "<stem>N.log" with the first number that is not taken."""
    number = 1
    while True:
        try:
            path = folder / f"{stem}{number}.log"
            path.touch(exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return path
