"""The messages between the parent and a stage process, apart from how they travel.

A message is one msgpack map, {"type": name, **fields}; the contents of small files follow it, one
after another (`stages.process.wire`). Nothing is pickled. Both halves import this module, so it
imports msgpack and no more. Which message is allowed when stands in
`orchestrator/running/protocol_rules.py`.

    child -> parent   hello  ready  progress  preview  heartbeat  done  failed
    parent -> child   prepare  load  run  exit
"""

from __future__ import annotations

import math
import reprlib
import types
import typing
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeAlias, TypeVar

import msgpack


class ProtocolError(Exception):
    """A stage process sent something that is not a message."""


VERSION = 5
INLINE_MAX_BYTES = 1 << 20
"""Files of a job ride in its message up to so many bytes together; the others the child writes."""


@dataclass(frozen=True)
class Part:
    """One file of an artifact.

    file    its name inside the node's folder, e.g. "coarse_mesh.vertices.npy"
    size    bytes
    start   where its content begins in the contents behind the message, or -1
    temp    name of the finished temporary file that the parent renames, or ""
    """

    file: str
    size: int
    start: int = -1
    temp: str = ""


@dataclass(frozen=True)
class Hello:
    """First word of a child."""

    stage: str
    pid: int
    protocol: int
    warm: bool


@dataclass(frozen=True)
class Ready:
    """The stage is loaded. Seconds since the process began, by step."""

    timings: dict[str, float]


@dataclass(frozen=True)
class Progress:
    job: str
    step: int
    total: int
    note: str = ""


@dataclass(frozen=True)
class Preview:
    """A picture of the work on a job, for people: height * width * 3 bytes, row by row, sRGB."""

    job: str
    name: str
    height: int
    width: int
    pixels: bytes


@dataclass(frozen=True)
class Heartbeat:
    """Sent by a thread; `rss` and `vram` in bytes, vram -1 where the child has no CUDA context."""

    rss: int
    vram: int


@dataclass(frozen=True)
class Done:
    """A job is finished.

    outputs  artifact name -> its files
    peaks    bytes: rss and vram (torch's allocator) at most, and reserved, what that holds now
    warnings, degraded  texts for people: see stages.contract.Context.warn
    """

    job: str
    outputs: dict[str, list[Part]]
    timings: dict[str, float]
    peaks: dict[str, int]
    warnings: list[str] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Failed:
    """A job (or, with job "", the load) failed; the process may go on to the next job
    unless `fatal`."""

    job: str
    kind: str
    message: str
    hint: str
    traceback: str
    fatal: bool = False
    peaks: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepare:
    """Read the weights into the page cache, at most `limit` bytes, while waiting to load."""

    params: dict[str, Any]
    limit: int


@dataclass(frozen=True)
class Load:
    """Build the stage: which device and dtype, validated params and threads.

    gpu         value for CUDA_VISIBLE_DEVICES: the leased card's UUID, or "" for none
    vram_bytes  the process's share of the card, its CUDA context included; 0: all of it
    host_bytes  host memory that it may fill with weights; 0: no limit
    """

    device: str
    gpu: str
    dtype: str
    params: dict[str, Any]
    threads: int
    vram_bytes: int = 0
    host_bytes: int = 0


@dataclass(frozen=True)
class Run:
    """One job. inputs: artifact name -> absolute paths of its files; folder: where the large
    outputs go; seed: this job's own; previews: how many pictures of the work are wanted."""

    job: str
    inputs: dict[str, list[str]]
    folder: str
    scratch: str
    seed: int
    previews: int = 0


@dataclass(frozen=True)
class Exit:
    """Close the stage and end."""


Message: TypeAlias = (
    Hello | Ready | Progress | Preview | Heartbeat | Done | Failed | Prepare | Load | Run | Exit
)
_TYPES: dict[str, type[Any]] = {cls.__name__.lower(): cls for cls in typing.get_args(Message)}
_HINTS: dict[type[Any], dict[str, Any]] = {
    cls: typing.get_type_hints(cls) for cls in (*_TYPES.values(), Part)
}
_T = TypeVar("_T")


def encode(message: Message) -> bytes:
    """One msgpack map."""
    body = {"type": type(message).__name__.lower(), **_plain(message)}
    # A path's undecodable bytes are surrogates, which must come back as they are: escaped, those
    # that happen to be UTF-8 would become other letters, and a job's name another job's.
    packed: bytes = msgpack.packb(body, use_bin_type=True, unicode_errors="surrogatepass")
    return packed


def decode(data: bytes) -> Message:
    """Inverse of `encode`. Raises `ProtocolError` naming what is wrong; never trusts a type."""
    try:
        body = msgpack.unpackb(data, raw=False, strict_map_key=True, unicode_errors="surrogatepass")
    except (msgpack.UnpackException, ValueError) as error:
        raise ProtocolError(f"not a msgpack message ({type(error).__name__})") from error
    kind = body.pop("type", None) if isinstance(body, dict) else None
    if not isinstance(kind, str) or kind not in _TYPES:
        raise ProtocolError(f"not a known message: type {reprlib.repr(kind)}")
    message: Message = _build(_TYPES[kind], body, kind)
    return message


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _build(cls: type[_T], body: object, where: str) -> _T:
    if not isinstance(body, dict):
        raise ProtocolError(f"{where}: expected a map, got {type(body).__name__}")
    hints = _HINTS[cls]
    surplus = set(body) - set(hints)
    if surplus:
        raise ProtocolError(f"{where}: unknown field {min(map(str, surplus))!r}")
    for entry in fields(typing.cast("Any", cls)):
        if entry.name not in body and entry.default is entry.default_factory is MISSING:
            raise ProtocolError(f"{where}: field {entry.name!r} is missing")
    return cls(**{name: _coerce(body[name], hints[name], f"{where}.{name}") for name in body})


def _coerce(value: object, hint: Any, where: str) -> Any:
    """Check `value` against a field's annotation: plain types, dict, list and dataclasses."""
    if hint is Any:
        return value
    origin = typing.get_origin(hint)
    if origin in (dict, list):
        if not isinstance(value, origin):
            raise ProtocolError(f"{where}: expected {origin.__name__}, got {type(value).__name__}")
        item = typing.get_args(hint)[-1]
        if isinstance(value, dict):
            if not all(isinstance(key, str) for key in value):
                raise ProtocolError(f"{where}: expected names as keys")
            return {key: _coerce(entry, item, f"{where}.{key}") for key, entry in value.items()}
        return [_coerce(entry, item, where) for entry in typing.cast("list[object]", value)]
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        return _build(hint, value, where)
    if isinstance(hint, types.UnionType):
        raise ProtocolError(f"{where}: unsupported annotation {hint}")
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise ProtocolError(f"{where}: expected {hint.__name__}, got {type(value).__name__}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ProtocolError(f"{where}: {value} cannot be recorded, run.json being JSON")
    return value
