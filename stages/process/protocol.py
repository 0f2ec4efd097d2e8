"""The messages between the parent and a stage process, apart from how they travel.

A message is one msgpack map, {"type": name, **fields}; the contents of small files follow it, one
after another (`stages.process.wire`). Nothing is pickled, and every field is held to its type.
Which message is allowed when stands in `orchestrator/running/protocol_rules.py`.

    child -> parent   hello  ready  progress  preview  heartbeat  done  failed
    parent -> child   prepare  load  run  exit
"""

from __future__ import annotations

import reprlib
import typing
from typing import Annotated, Any, TypeAlias, TypeVar

import msgpack
from pydantic import BaseModel, ConfigDict, FailFast, ValidationError


class ProtocolError(Exception):
    """A stage process sent something that is not a message."""


VERSION = 5
INLINE_MAX_BYTES = 1 << 20
"""Files of a job ride in its message up to so many bytes together; the others the child writes."""

_T = TypeVar("_T")
_List: TypeAlias = Annotated[list[_T], FailFast()]
"""One wrong item is enough: told of each, a message of empty maps would take 240 MiB."""
_FAULTS = 100
"""Of a message with more faults than these, not even the first is looked up: that takes memory."""


class _Record(BaseModel):
    """Maps with just these fields, of just these types; numbers are finite, run.json being JSON.

    Each process uses only some of them, so what checks them is built when it is first needed.
    """

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True
    )


class Part(_Record):
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


class Hello(_Record):
    """First word of a child."""

    stage: str
    pid: int
    protocol: int
    warm: bool


class Ready(_Record):
    """The stage is loaded. Seconds since the process began, by step."""

    timings: dict[str, float]


class Progress(_Record):
    job: str
    step: int
    total: int
    note: str = ""


class Preview(_Record):
    """A picture of the work on a job, for people: height * width * 3 bytes, row by row, sRGB."""

    job: str
    name: str
    height: int
    width: int
    pixels: bytes


class Heartbeat(_Record):
    """Sent by a thread; `rss` and `vram` in bytes, vram -1 where the child has no CUDA context."""

    rss: int
    vram: int


class Done(_Record):
    """A job is finished.

    outputs  artifact name -> its files
    peaks    bytes: rss and vram (torch's allocator) at most, and reserved, what that holds now
    warnings, degraded  texts for people: see stages.contract.Context.warn
    """

    job: str
    outputs: dict[str, _List[Part]]
    timings: dict[str, float]
    peaks: dict[str, int]
    warnings: _List[str] = []
    degraded: _List[str] = []


class Failed(_Record):
    """A job (or, with job "", the load) failed; the process may go on to the next job
    unless `fatal`."""

    job: str
    kind: str
    message: str
    hint: str
    traceback: str
    fatal: bool = False
    peaks: dict[str, int] = {}


class Prepare(_Record):
    """Read the weights into the page cache, at most `limit` bytes, while waiting to load."""

    params: dict[str, Any]
    limit: int


class Load(_Record):
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


class Run(_Record):
    """One job. inputs: artifact name -> absolute paths of its files; folder: where the large
    outputs go; seed: this job's own; previews: how many pictures of the work are wanted."""

    job: str
    inputs: dict[str, _List[str]]
    folder: str
    scratch: str
    seed: int
    previews: int = 0


class Exit(_Record):
    """Close the stage and end."""


Message: TypeAlias = (
    Hello | Ready | Progress | Preview | Heartbeat | Done | Failed | Prepare | Load | Run | Exit
)
_TYPES: dict[str, type[Message]] = {cls.__name__.lower(): cls for cls in typing.get_args(Message)}


def encode(message: Message) -> bytes:
    """One msgpack map."""
    body = {"type": type(message).__name__.lower(), **message.model_dump()}
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
    try:
        return _TYPES[kind].model_validate(body)
    except ValidationError as error:
        raise ProtocolError(f"{kind}{_first_fault(error)}") from None


def _first_fault(error: ValidationError) -> str:
    """Where and what the first fault of a message is, as in ".timings.load: Field required"."""
    if error.error_count() > _FAULTS:
        return f": {error.error_count()} fields are wrong"
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return "".join(f".{step}" for step in first["loc"]) + f": {first['msg']}"
