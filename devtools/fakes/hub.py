"""A small Hugging Face hub on 127.0.0.1: just what huggingface_hub and `models pull` ask of one.

Large files (here: all but .json and .txt) are kept in LFS: `resolve` redirects to another host, as
the real hub does, which must not be shown the token.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devtools.patience import PATIENCE

FLEXGEN = b"flexgen" * 300_000
"""What a hub of the tests has in place of FlexGen's weights."""
COMMIT = "c0ffee" + "0" * 34
TOKEN = "hf_good"


@dataclass
class Repository:
    """files: path -> content. refs: revisions that exist. gated: TOKEN is needed for the files."""

    files: dict[str, bytes]
    refs: tuple[str, ...] = ("main",)
    gated: bool = False
    private: bool = False


@dataclass(frozen=True)
class Request:
    """What a client asked: method, path without query, and some of its headers."""

    method: str
    path: str
    range: str
    if_range: str
    authorization: str


@dataclass
class FakeHub:
    """What it serves and how it misbehaves; may be changed while it runs.

    plain       other files, by url path (those that are no repository's)
    cuts        path -> after how many bytes of an answer the connection ends; once for each entry
    stall       path -> bytes after which an answer waits for `resume`
    forged      path -> what is sent instead of the content
    statuses    path, or a repository's name -> a status that is answered instead of the file, or
                of the listing of its files
    no_ranges   answer 200 with the whole file when a part was asked for
    shifted     path -> by how many bytes an answer to a range begins too early; None: it is of the
                right bytes, and does not say of which
    """

    repositories: dict[str, Repository] = field(default_factory=dict)
    plain: dict[str, bytes] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    stall: dict[str, int] = field(default_factory=dict)
    forged: dict[str, bytes] = field(default_factory=dict)
    statuses: dict[str, list[int]] = field(default_factory=dict)
    no_ranges: bool = False
    shifted: dict[str, int | None] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    stalled: threading.Event = field(default_factory=threading.Event)
    resume: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def asked(self, path: str, method: str = "GET") -> list[Request]:
        """Requests for a path that ends so."""
        return [r for r in self.requests if r.method == method and r.path.endswith(path)]


@contextmanager
def serve(hub: FakeHub) -> Iterator[FakeHub]:
    class Handler(_Handler):
        server_hub = hub

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        hub.resume.set()
        server.shutdown()
        thread.join()
        server.server_close()


def is_lfs(path: str) -> bool:
    return not path.endswith((".json", ".txt"))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    server_hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class's name)
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        headers = self.headers
        told = (headers.get(name, "") for name in ("Range", "If-Range", "Authorization"))
        self.server_hub.requests.append(Request(self.command, path, *told))
        if path.startswith("/api/models/"):
            self._api(path.removeprefix("/api/models/"))
        elif "/resolve/" in path:
            self._resolve(*path[1:].split("/resolve/"))
        elif path.startswith("/cdn/"):
            self._cdn(path.rpartition("/")[2])
        elif path in self.server_hub.plain:
            content = self.server_hub.plain[path]
            self._send_file(path, content, {"ETag": f'"{sha256(content)}"'})
        else:
            self._error(404, "EntryNotFound")

    # ------------------------------------------------------------------ answers

    def _api(self, path: str) -> None:
        name, _, rest = path.partition("/revision/")
        listing = not rest
        if listing:
            name, _, rest = path.partition("/tree/")
        repository = self._open(name)
        if repository is None:
            return
        statuses = self.server_hub.statuses.get(name)
        if listing and statuses:
            self._error(statuses.pop(0), "")
            return
        if rest not in (COMMIT, *repository.refs):
            self._error(404, "RevisionNotFound")
        elif listing:
            self._json([_tree_entry(p, content) for p, content in repository.files.items()])
        else:
            self._json({"id": name, "sha": COMMIT})

    def _open(self, name: str) -> Repository | None:
        """A repository, or None when the refusal has been sent."""
        repository = self.server_hub.repositories.get(name)
        authorised = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not authorised):
            # The real hub does not tell strangers whether a repository exists.
            self._error(404 if authorised else 401, "RepoNotFound")
            return None
        return repository

    def _resolve(self, name: str, rest: str) -> None:
        revision, _, path = rest.partition("/")
        repository = self._open(name)
        if repository is None:
            return
        if repository.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._error(403 if self.headers.get("Authorization") else 401, "GatedRepo")
            return
        if revision not in (COMMIT, *repository.refs) or path not in repository.files:
            self._error(404, "EntryNotFound")
            return
        content = repository.files[path]
        headers = {"X-Repo-Commit": revision if len(revision) == 40 else COMMIT}
        if not is_lfs(path):
            self._send_file(path, content, {**headers, "ETag": f'"{git_sha1(content)}"'})
            return
        if statuses := self.server_hub.statuses.get(path):
            self._error(statuses.pop(0), "")
            return
        self.send_response(302)
        for key, value in {
            **headers,
            "X-Linked-Size": str(len(content)),
            "X-Linked-ETag": f'"{sha256(content)}"',
            "Location": f"http://localhost:{self.server_hub.port}/cdn/{sha256(content)}",
            "Content-Length": "0",
        }.items():
            self.send_header(key, value)
        self.end_headers()

    def _cdn(self, digest: str) -> None:
        for repository in self.server_hub.repositories.values():
            for path, content in repository.files.items():
                if sha256(content) == digest:
                    self._send_file(path, content, {"ETag": f'"{digest}"'})
                    return
        self._error(404, "EntryNotFound")

    def _send_file(self, path: str, content: bytes, headers: dict[str, str]) -> None:
        hub = self.server_hub
        if statuses := hub.statuses.get(path):
            self._error(statuses.pop(0), "")
            return
        content = hub.forged.get(path, content)
        start, total = 0, len(content)
        wanted = self.headers.get("Range", "")
        same = self.headers.get("If-Range", headers.get("ETag")) == headers.get("ETag")
        if wanted and same and not hub.no_ranges:
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            if start >= total:
                self._error(416, "")
                return
            shift = hub.shifted.get(path, 0)
            start -= shift or 0
            self.send_response(206)
            if shift is not None:
                self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        else:
            self.send_response(200)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(total - start))
        self.end_headers()
        if self.command == "GET":
            self._send_body(path, content[start:])

    def _send_body(self, path: str, body: bytes) -> None:
        hub = self.server_hub
        try:
            if hub.cuts.get(path):
                self.wfile.write(body[: hub.cuts[path].pop(0)])
                self.close_connection = True
                return
            if path in hub.stall:
                count = hub.stall.pop(path)
                self.wfile.write(body[:count])
                self.wfile.flush()
                hub.stalled.set()
                hub.resume.wait(PATIENCE)
                body = body[count:]
            self.wfile.write(body)
        except OSError:  # the client has gone, as some tests want it to
            self.close_connection = True

    def _json(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _tree_entry(path: str, content: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "type": "file",
        "path": path,
        "size": len(content),
        "oid": git_sha1(content),
    }
    if is_lfs(path):
        entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 134}
    return entry


def snapshot(home: Path, repo: str, commit: str = COMMIT) -> Path:
    """Where the hub's cache below `home` has a revision of a repository."""
    return home / "hf/hub" / f"models--{repo.replace('/', '--')}" / "snapshots" / commit
