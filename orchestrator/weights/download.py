"""One file over HTTP, resumed after any cut, also by a later process, and held to its hash.

    <target>.part    what has come so far; a second process waits for the lock on <target>.lock
    <target>.etag    which version of the file that is a part of, as the server names it
    <target>         the whole file, whose size and hash are right

It goes through the hub's HTTP client, so proxies, certificates and HF_HUB_OFFLINE hold for plain
urls as well. huggingface_hub resumes a cut only within one call and drops the rest of a file when
its process ends; these files have up to 24 GB.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from orchestrator.errors import DownloadError
from orchestrator.system import locks
from orchestrator.system.inside import Inside
from orchestrator.system.places import sync
from orchestrator.weights import hub_log, network

_CHUNK = 1 << 20
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each try that follows one which brought nothing; then it is given up."""
_TIMEOUT = 30.0
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")
_STRONG_ETAG = re.compile(r'"[\x21\x23-\x7e]{1,200}"')


@dataclass(frozen=True)
class RemoteFile:
    """A file to download.

    label    how it is called on the screen
    size     bytes, or None where only the server knows
    digest   sha256:..., md5:... or git-sha1:...; "" where nobody states one
    headers  of the request; they may hold a token
    """

    label: str
    url: str
    target: Path
    size: int | None
    digest: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def part(self) -> Path:
        return self.target.with_name(f"{self.target.name}.part")

    @property
    def validator(self) -> Path:
        return self.target.with_name(f"{self.target.name}.etag")

    @property
    def inside(self) -> Inside:
        """Its folder. A cache may be shared: what somebody has linked there is not written to."""
        return Inside(self.target.parent)

    def drop_part(self) -> None:
        self.inside.remove(self.part.name)
        self.inside.remove(self.validator.name)

    def present(self) -> int:
        """Bytes that need not be downloaded again."""
        for path in (self.target, self.part):
            if path.is_file():
                return path.stat().st_size
        return 0


class Meter(Protocol):
    """Hears of the bytes of one file: set to `done` of `total`, or moved on by `count`; and that it
    is asked for again, and why."""

    def at(self, done: int, total: int | None) -> None: ...

    def move(self, count: int) -> None: ...

    def trying_again(self, text: str) -> None: ...


def file_digest(path: Path, kind: str) -> str:
    """The hash of a file, as sha256, md5 or git-sha1 (how git names a blob)."""
    digest = hashlib.sha1() if kind == "git-sha1" else hashlib.new(kind)
    if kind == "git-sha1":
        digest.update(f"blob {path.stat().st_size}\0".encode())
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return f"{kind}:{digest.hexdigest()}"


def download(file: RemoteFile, meter: Meter, stop: threading.Event) -> None:
    """Bring `file` to its target. Raises `DownloadError`, OSError, or what the client raises."""
    file.target.parent.mkdir(parents=True, exist_ok=True)
    with _only_one(file, stop):
        if file.target.exists():  # another process has brought it meanwhile
            return
        resumed = file.part.exists()
        _fetch(file, meter, stop)
        if resumed and not _is_right(file):  # what was left of an earlier try may be at fault
            file.drop_part()
            _fetch(file, meter, stop)
        if not _is_right(file):
            file.drop_part()
            raise _wrong(file)
        file.inside.rename(file.part.name, file.target.name)
        file.inside.remove(file.validator.name)


@contextlib.contextmanager
def _only_one(file: RemoteFile, stop: threading.Event) -> Iterator[None]:
    """Wait until no other process is at the same file."""
    lock = file.target.with_name(f"{file.target.name}.lock")
    with contextlib.ExitStack() as stack:
        held = False
        while not held:
            _check(stop)
            with contextlib.suppress(locks.InUseError):
                stack.enter_context(locks.held(lock, seconds=1.0))
                held = True
        yield
        with contextlib.suppress(OSError):  # Windows does not remove an open file; it may stay
            lock.unlink()


def _check(stop: threading.Event) -> None:
    if stop.is_set():
        raise DownloadError("stopped", "the same command goes on where it was")


def _is_right(file: RemoteFile) -> bool:
    return not file.digest or file_digest(file.part, file.digest.partition(":")[0]) == file.digest


def _wrong(file: RemoteFile) -> DownloadError:
    return DownloadError(
        f"{file.label}: what came has another hash than its publisher states ({file.digest}), "
        "and was deleted",
        "try again; if it stays so, the file was replaced, or a mirror or proxy changes it",
    )


def _fetch(file: RemoteFile, meter: Meter, stop: threading.Event) -> None:
    """Fill the .part file, trying again after cuts."""
    failures = 0
    while True:
        before = file.part.stat().st_size if file.part.exists() else 0
        try:
            _request(file, before, meter, stop)
            return
        except Exception as error:
            if not _is_passing(error):
                raise
            after = file.part.stat().st_size if file.part.exists() else 0
            failures = 0 if after > before else failures + 1
            if failures > len(PAUSES):
                raise
            meter.trying_again(hub_log.again(hub_log.host_of(file.url), _reason(error)))
            _pause(PAUSES[max(0, failures - 1)], stop)


def _reason(error: Exception) -> str:
    """In a few words; those of an answer's status, of which the client writes paragraphs."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return f"status {error.response.status_code}"
    text = error.reason if isinstance(error, _CutError) else str(error)
    return text.strip().partition("\n")[0] or type(error).__name__


def _pause(seconds: float, stop: threading.Event) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        _check(stop)
        stop.wait(min(0.2, seconds))


class _CutError(DownloadError):
    """An answer that ended before the file was whole, or was not of the part that was asked for."""

    def __init__(self, file: RemoteFile, reason: str) -> None:
        super().__init__(f"{file.label}: {reason}", "the same command goes on where it was")
        self.reason = reason


def _is_passing(error: Exception) -> bool:
    """Whether the same request may well succeed in a moment."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _PASSING
    return isinstance(error, (_CutError, *transport_errors())) or network.was_closed(error)


def transport_errors() -> tuple[type[Exception], ...]:
    """What the hub's HTTP client raises for a connection that fails.

    Its package has changed twice; the hub's own error has its base class as first base.
    """
    from huggingface_hub.errors import HfHubHTTPError

    return (HfHubHTTPError.__mro__[1],)


def _request(file: RemoteFile, start: int, meter: Meter, stop: threading.Event) -> None:
    from huggingface_hub import get_session
    from huggingface_hub.utils import hf_raise_for_status

    if file.size is not None and start == file.size:
        meter.at(start, file.size)
        return
    if file.size is not None and start > file.size:
        start = 0
    headers = {**file.headers, "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if etag := _etag_of_part(file):
            headers["If-Range"] = etag  # of another version, the server sends all
    with get_session().stream(
        "GET", file.url, headers=headers, timeout=_TIMEOUT, follow_redirects=True
    ) as response:
        if response.status_code == 416:  # the .part file is longer than the file
            file.drop_part()
            raise _CutError(file, f"nothing is left behind byte {start}")
        hf_raise_for_status(response)
        total: int | None
        if response.status_code == 206:
            total = _total_of_range(file, start, response.headers.get("Content-Range", ""))
        else:
            start, total = 0, _total(file, response.headers)
            _keep_etag(file, response.headers.get("ETag", ""))
        meter.at(start, total)
        with file.inside.partial(file.part.name, start) as stream:
            for chunk in response.iter_raw():  # as it comes: a larger chunk is lost in a cut
                _check(stop)
                stream.write(chunk)
                meter.move(len(chunk))
            stream.flush()
            sync(stream.fileno())
            size = stream.tell()
    if total is not None and size < total:
        raise _CutError(file, f"the connection ended at byte {size} of {total}")
    if total is not None and size > total:
        file.drop_part()
        raise DownloadError(
            f"{file.label}: {size} bytes came instead of {total}", "a mirror or proxy changes it"
        )


def _etag_of_part(file: RemoteFile) -> str:
    try:
        with file.inside.read(file.validator.name) as stream:
            etag = stream.read(1024).decode("latin-1")
    except OSError:
        return ""
    return etag if _STRONG_ETAG.fullmatch(etag) else ""


def _keep_etag(file: RemoteFile, etag: str) -> None:
    """A weak one promises the same meaning, not the same bytes."""
    if _STRONG_ETAG.fullmatch(etag):
        file.inside.write(file.validator.name, etag.encode("latin-1"), durable=False)
    else:
        file.inside.remove(file.validator.name)


def _total_of_range(file: RemoteFile, start: int, content_range: str) -> int:
    """Bytes of the whole file, of an answer that holds what was asked for: from `start` on.

    Otherwise nothing of it is written behind the rest, which is dropped: the next try, without a
    range, gets all. Raises `_CutError`.
    """
    found = _CONTENT_RANGE.fullmatch(content_range)
    if found and int(found[1]) == start and file.size in (None, int(found[2])):
        return int(found[2])
    file.drop_part()
    sent = content_range or "no Content-Range"
    raise _CutError(file, f'asked for the bytes behind {start}, the server sent "{sent}"')


def _total(file: RemoteFile, headers: Mapping[str, str]) -> int | None:
    if file.size is not None:
        return file.size
    length = headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None
