"""Programs' calls that cannot be carried out, answered at once and in words.

Gradio itself puts such a call into its queue, and then tells of an error without a text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.errors import brief, nearest

_SUBJECT = ("picture", "text", "profile", "seed", "fast", "mesh")
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "make_mesh": _SUBJECT,
    "submit": _SUBJECT,
    "status": ("run",),
    "cancel": ("run",),
    "resume": ("run",),
    "runs": (),
}
"""What "data" holds for each function of `orchestrator.web.http_api`, in this order."""


class CheckedCalls:
    """ASGI middleware behind the guard, which has limited the body's size."""

    def __init__(self, app: ASGIApp, calls: str) -> None:
        """calls: the beginning of the addresses that call a function of a name."""
        self._app = app
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = self._called(scope)
        if not name:
            await self._app(scope, receive, send)
            return
        if name not in ARGUMENTS:
            near = nearest(name, ARGUMENTS)
            meant = f'did you mean "{near}"? ' if near else ""
            told = f'no function "{brief(name)}"; {meant}known: {", ".join(ARGUMENTS)}'
            await JSONResponse({"detail": told}, 404)(scope, receive, send)
            return
        body = await _whole(receive)
        if missing := _missing(name, body):
            await JSONResponse({"detail": missing}, 422)(scope, receive, send)
            return
        begun = False

        async def again() -> Message:
            nonlocal begun
            if begun:  # it waits for the caller to go away
                return await receive()
            begun = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)

    def _called(self, scope: Scope) -> str:
        """The function that a request calls with a list of values, or "": others have their names
        (`v2/...`), or ask for an answer (GET)."""
        if scope["type"] != "http" or scope["method"] != "POST":
            return ""
        path = str(scope["path"])
        name = path.removeprefix(self._calls).rstrip("/")
        return "" if name == path or "/" in name else name


async def _whole(receive: Receive) -> bytes:
    """A request's body; of one that is broken off what has come."""
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def _missing(name: str, body: bytes) -> str:
    """What a call lacks, or ""; Gradio says what is wrong with one that is no call at all."""
    try:
        asked: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    values = asked.get("data") if isinstance(asked, dict) else None
    wanted = ARGUMENTS[name]
    if not isinstance(values, list) or len(values) >= len(wanted):
        return ""
    missing = wanted[len(values) :]
    return (
        f'{name} wants "data" to be [{", ".join(wanted)}]; '
        f"{', '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing"
    )
