"""What stands before Gradio: who may come in, which of its addresses are open, how much is taken.

host     a page on this machine answers to this machine's names alone, so that no website can
         reach it through a name of its own (DNS rebinding), nor post to it from elsewhere
auth     with --auth every address wants a name and a password, by HTTP Basic, which browsers
         ask for and programs can say. (Gradio's own login leaves MCP's addresses open.)
closed   what Gradio serves and this page does not use: files of other servers, recordings, ...
size     of a request's body
"""

from __future__ import annotations

import base64
import binascii
import hmac
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.web.files import PREFIX, Files
from orchestrator.web.options import LOCAL_HOSTS, WebOptions
from orchestrator.web.uploads import Uploads

API = "/gradio_api"
UPLOAD = f"{API}/upload"
MCP = f"{API}/mcp"
CALLS = (f"{API}/info", f"{API}/openapi", f"{API}/call/", f"{API}/run/", f"{API}/api/")
"""Beginnings of the addresses that are for programs alone."""
STARTED = f"{API}/startup-events"
"""Gradio asks itself whether it is up."""
CLOSED = (
    *(f"{API}/proxy=", f"{API}/stream/", f"{API}/process_recording", f"{API}/vibe-"),
    *(f"{API}/undo-vibe-edit", f"{API}/runs", f"{API}/run-history", f"{API}/deep_link"),
    *(f"{API}/custom_component", f"{API}/component_server", f"{API}/dev/", "/monitoring"),
    *(f"{API}/file/", f"{API}/profiling", f"{API}/token"),
)
"""Beginnings of addresses."""
FILE = f"{API}/file="
INNER = "x-kiss3d-inner"
WORDS_MIB = 8
"""The largest body that is no upload: a request's words, in which MCP may send a small picture."""
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"SAMEORIGIN"),
)
POLICY = (
    "default-src 'self' data: blob:; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'self'"
)
"""Of the page itself: it loads nothing from anywhere else, and works without a network."""


class TooLargeError(Exception):
    """A body of more bytes than are taken."""


class Guard:
    """ASGI middleware around Gradio's application."""

    def __init__(self, app: ASGIApp, options: WebOptions, uploads: Uploads, inner: str) -> None:
        """inner: what this program's own requests say in `INNER`, so that they are known."""
        self._app = app
        self._options = options
        self._uploads = uploads
        self._inner = inner.encode()
        self._files = Files(options.output)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing of the page uses a web socket
            return
        connection = HTTPConnection(scope)
        refusal = self._refusal(connection)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        if scope["path"].startswith(PREFIX):
            await self._files(scope, receive, send)
            return
        await self._pass_on(scope, receive, send)

    def _refusal(self, asked: HTTPConnection) -> Response | None:
        path = asked.scope["path"]
        if wrong := self._foreign(asked):
            return PlainTextResponse(wrong, 403)
        if path.startswith(CLOSED) or (path.startswith(FILE) and "://" in path[len(FILE) :]):
            return PlainTextResponse("not served here", 403)
        if path.startswith(MCP) and not self._options.mcp:
            return PlainTextResponse("started without --mcp", 404)
        if path.startswith(CALLS) and not (self._options.api or self._is_inner(asked)):
            return PlainTextResponse("started without --api", 404)
        if self._options.auth and path != STARTED and not self._may_enter(asked):
            ask = {"WWW-Authenticate": 'Basic realm="kiss3d-orchestrate", charset="UTF-8"'}
            return PlainTextResponse("a name and a password are needed", 401, ask)
        if path.startswith(UPLOAD):
            self._uploads.make_room()
        return None

    def _foreign(self, asked: HTTPConnection) -> str:
        """Why a request cannot be of somebody who sees this page, or ""."""
        host = urlsplit(f"//{asked.headers.get('host', '')}").hostname or ""
        if self._options.is_local and host not in LOCAL_HOSTS:
            return f"this page is {LOCAL_HOSTS[0]}'s alone; --host says otherwise"
        origin = asked.headers.get("origin")
        method = asked.scope.get("method", "GET")
        if origin is None or method in ("GET", "HEAD", "OPTIONS") or self._options.share:
            return ""
        came_from = urlsplit(origin).netloc
        return "" if came_from == asked.headers.get("host", "") else "sent by another website"

    def _may_enter(self, asked: HTTPConnection) -> bool:
        return self._says_password(asked) or self._is_inner(asked)

    def _is_inner(self, asked: HTTPConnection) -> bool:
        return hmac.compare_digest(asked.headers.get(INNER, "").encode(), self._inner)

    def _says_password(self, asked: HTTPConnection) -> bool:
        kind, _, code = asked.headers.get("authorization", "").partition(" ")
        if kind.lower() != "basic":
            return False
        try:
            told = base64.b64decode(code, validate=True)
        except (binascii.Error, ValueError):
            return False
        known = [f"{name}:{password}".encode() for name, password in self._options.auth]
        # All are compared, each in the same time.
        return sum(hmac.compare_digest(told, one) for one in known) > 0

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Through to Gradio, with a limit on what comes and headers on what goes."""
        is_upload = scope["path"].startswith(UPLOAD)
        limit = ((self._options.upload_mib + 1) if is_upload else WORDS_MIB) << 20
        taken = 0
        begun = False

        async def counted() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise TooLargeError
            return message

        async def with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                names = {name.lower() for name, _ in message["headers"]}
                added = [pair for pair in HEADERS if pair[0] not in names]
                if b"content-security-policy" not in names:
                    added.append((b"content-security-policy", POLICY.encode()))
                message["headers"] = [*message["headers"], *added]
            await send(message)

        length = HTTPConnection(scope).headers.get("content-length", "0")
        try:
            if length.isdigit() and int(length) > limit:
                raise TooLargeError
            await self._app(scope, counted, with_headers)
        except TooLargeError:
            if not begun:
                told = PlainTextResponse(f"more than {limit >> 20} MiB are not taken", 413)
                await told(scope, receive, send)
