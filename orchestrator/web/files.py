"""What the page shows of runs: their files, their 3D views, and runs side by side.

    /kiss3d/runs/<run>/result/<file>     a file of the result, by a list of kinds
    /kiss3d/runs/<run>/input             the picture that it was given
    /kiss3d/runs/<run>/all.zip           all of its result in one archive
    /kiss3d/runs/<run>/view              its mesh in 3D
    /kiss3d/compare?run=<run>&run=<run>  several side by side

Gradio itself serves nothing of the outputs: its own rule would take any file below a folder. Here a
file is opened part by part below the outputs, past no link, and only if a run has it. A run's
record and logs are not served: they name this machine's folders. Whatever a file holds, a browser
may do nothing with it: pages come in a sandbox without an origin and without a network.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from orchestrator.commands.subject import PICTURE
from orchestrator.errors import KissError
from orchestrator.record.result_folder import RESULT_FILES, THUMBNAIL_JPG
from orchestrator.record.run_directory import RESULT, RunDirectory
from orchestrator.system.inside import Inside
from orchestrator.web.gallery import is_run
from stages.contract.filetypes import HEAD, identify
from stages.contract.mesh_files import WHEN

PREFIX = "/kiss3d/"
RUNS = f"{PREFIX}runs/"
COMPARE = f"{PREFIX}compare"
KINDS = {
    ".glb": "model/gltf-binary",
    ".obj": "model/obj",
    ".mtl": "model/mtl",
    ".ply": "application/octet-stream",
    ".stl": "model/stl",
    ".3mf": "model/3mf",
    ".usdz": "model/vnd.usdz+zip",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
}
"""What is served, and as what; a file of another kind in a result is not."""
_SHOWN = (".png", ".jpg", ".html", ".json")
"""Kinds that a browser shows; it saves the others."""
_PICTURES = ("png", "jpeg", "webp", "gif", "avif", "bmp")
"""Kinds of an input that every browser shows."""
SANDBOX = (
    "sandbox allow-scripts allow-downloads allow-popups; default-src 'none'; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src data: blob:"
)
_CHUNK = 1 << 18


def run_url(name: str, file: str) -> str:
    """The address of a run's file, as a page names it."""
    return f"{RUNS}{quote(name, errors='surrogateescape')}/{quote(file)}"


def compare_url(names: list[str]) -> str:
    told = "&".join(f"run={quote(name, safe='', errors='surrogateescape')}" for name in names)
    return f"{COMPARE}?{told}"


class Files:
    """The ASGI application of these addresses. root: the outputs."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.concurrency import run_in_threadpool

        request = Request(scope)
        response = await run_in_threadpool(self._answer, request)
        await response(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("only GET", 405)
        path = request.url.path
        try:
            if path == COMPARE:
                return self._compare(request.query_params.getlist("run"))
            # Starlette has decoded the path once; what is left in it is a name.
            below = request.scope["path"].removeprefix(RUNS)
            run, file = _split(below)
            if not is_run(self._root, run):
                return _none()
            if file == "view":
                return self._view(run)
            if file == "all.zip":
                return self._all(run)
            return self._input(run) if file == "input" else self._file(run, file)
        except (KissError, OSError, ValueError):
            return _none()

    def _file(self, run: str, file: str) -> Response:
        suffix = os.path.splitext(file)[1].lower()
        if suffix not in KINDS:
            return _none()
        stream = Inside(self._root).read(f"{run}/{file}")
        name = file.rpartition("/")[2]
        shown = suffix in _SHOWN
        headers = {
            "Content-Length": str(os.fstat(stream.fileno()).st_size),
            "Content-Disposition": "inline"
            if shown
            else f"attachment; filename*=UTF-8''{quote(_saved_as(run, name))}",
            "Cache-Control": "no-cache",
            "Content-Security-Policy": SANDBOX,
            "X-Content-Type-Options": "nosniff",
        }
        return StreamingResponse(_chunks(stream), headers=headers, media_type=KINDS[suffix])

    def _input(self, run: str) -> Response:
        """The picture that a run was given, if it is of a kind that browsers show."""
        given = RunDirectory.open(self._root / run).manifest.given.get(PICTURE)
        if given is None:
            return _none()
        stream = Inside(self._root).read(f"{run}/{given.file}")
        head = stream.read(HEAD)
        found = identify(head)
        if found is None or found.name not in _PICTURES:
            stream.close()
            return _none()
        stream.seek(0)
        headers = {
            "Content-Length": str(os.fstat(stream.fileno()).st_size),
            "Content-Disposition": "inline",
            "Cache-Control": "no-cache",
            "Content-Security-Policy": SANDBOX,
            "X-Content-Type-Options": "nosniff",
        }
        return StreamingResponse(_chunks(stream), headers=headers, media_type=f"image/{found.name}")

    def _all(self, run: str) -> Response:
        """The files of the result that are served one by one, uncompressed, through a file that
        has no name: textures and GLB do not become smaller, and none is held in memory."""
        inside = Inside(self._root)
        packed = tempfile.TemporaryFile()  # noqa: SIM115 (`_chunks` closes it)
        try:
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
                for name, _ in result_files(self._root, run):
                    with (
                        inside.read(f"{run}/{RESULT}/{name}") as stream,
                        archive.open(zipfile.ZipInfo(name, WHEN), "w", force_zip64=True) as member,
                    ):
                        shutil.copyfileobj(stream, member, _CHUNK)
            size = packed.tell()
            packed.seek(0)
        except BaseException:
            packed.close()
            raise
        saved = quote(f"{run.rpartition('/')[2]}.zip", errors="surrogateescape")
        headers = {
            "Content-Length": str(size),
            "Content-Disposition": f"attachment; filename*=UTF-8''{saved}",
            "Cache-Control": "no-cache",
            "X-Content-Type-Options": "nosniff",
        }
        return StreamingResponse(_chunks(packed), headers=headers, media_type="application/zip")

    def _view(self, run: str) -> Response:
        from orchestrator.report.run_page import mesh_of

        mesh = mesh_of(RunDirectory.open(self._root / run))
        if mesh.viewer is None:
            return PlainTextResponse(mesh.why_not, headers={"X-Content-Type-Options": "nosniff"})
        return _page(mesh.viewer.document)

    def _compare(self, names: list[str]) -> Response:
        from orchestrator.commands.compare import MOST_RUNS
        from orchestrator.report.comparison import Side, comparison_html

        chosen = list(dict.fromkeys(names))[:MOST_RUNS]
        if len(chosen) < 2 or not all(is_run(self._root, name) for name in chosen):
            return _none()
        sides = [Side(RunDirectory.open(self._root / name), {}) for name in chosen]
        return _page(comparison_html(sides, "").decode())


def result_files(root: Path, name: str) -> list[tuple[str, int]]:
    """Names and sizes of what a run's result has for saving."""
    return [
        (entry.name, entry.size)
        for entry in Inside(root).entries(f"{name}/{RESULT}")
        if entry.is_file
        and not entry.name.startswith(".")
        and entry.name != THUMBNAIL_JPG
        and Path(entry.name).suffix.lower() in KINDS
    ]


def _split(below: str) -> tuple[str, str]:
    """ "a/b/result/mesh.glb" as ("a/b", "result/mesh.glb"). Raises ValueError."""
    run, _, name = below.rpartition("/")
    if name in ("view", "input", "all.zip"):
        return run, name
    run, _, folder = run.rpartition("/")
    if folder != RESULT or not name or name.startswith("."):
        raise ValueError("no file of a run")
    return run, f"{RESULT}/{name}"


def _saved_as(run: str, name: str) -> str:
    """The name under which a browser saves a file: two runs' meshes are told apart."""
    meshes = set(RESULT_FILES.values())
    return f"{run.rpartition('/')[2]}-{name}" if name in meshes else name


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    with stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _page(document: str) -> Response:
    headers = {
        "Content-Security-Policy": SANDBOX,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }
    return HTMLResponse(document, headers=headers)


def _none() -> Response:
    return PlainTextResponse("there is no such file", 404)
