"""The server: Gradio behind the guard, from its start to a signal."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

from orchestrator.errors import UsageError
from orchestrator.system.folders import make_folders
from orchestrator.system.locks import output_error
from orchestrator.system.private_folders import private_folder, sweep_private_folders
from orchestrator.web.options import WebOptions, require_gradio

EVENTS_WAITING = 256
"""Requests of pages and programs that may wait for an answer, each for a moment."""
MAX_THREADS = 24


@contextlib.contextmanager
def serving(options: WebOptions) -> Iterator[tuple[str, str]]:
    """The page, up and answering: its address here, and the shared one or "".

    At the end runs that compute are stopped, and can be resumed. Raises `UsageError` without
    Gradio, or where the port is taken; `OutputError`.
    """
    require_gradio()
    _require_port(options)
    root = options.output
    try:
        make_folders(root)
        root = root.resolve(strict=True)
        if not root.is_dir():
            raise NotADirectoryError
    except OSError as error:
        raise output_error(options.output, error) from error
    sweep_private_folders()  # with the uploads of a server that was killed
    with private_folder() as folder:
        # Before Gradio is imported: it reads this then.
        os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
        (folder / "uploads").mkdir(mode=0o700)
        with _launched(options, root, folder / "uploads") as addresses:
            yield addresses


@contextlib.contextmanager
def _launched(options: WebOptions, root: Path, folder: Path) -> Iterator[tuple[str, str]]:
    from dataclasses import replace

    from gradio_client import Client
    from starlette.middleware import Middleware

    from orchestrator.web import shown
    from orchestrator.web.actions import Site
    from orchestrator.web.calls import CheckedCalls
    from orchestrator.web.form import refuse_in_words, theme
    from orchestrator.web.guard import API, INNER, Guard
    from orchestrator.web.jobs import Jobs
    from orchestrator.web.page import build
    from orchestrator.web.uploads import Uploads

    refuse_in_words()
    options = replace(options, output=root)
    uploads = Uploads(folder, options.upload_mib << 20)
    jobs = Jobs(root, options.at_once, options.waiting)
    page = build(Site(root, jobs, uploads, options.at_once), options)
    page.queue(max_size=EVENTS_WAITING, default_concurrency_limit=4)
    inner = secrets.token_urlsafe(32)
    guard = Middleware(Guard, options=options, uploads=uploads, inner=inner)
    checked = Middleware(CheckedCalls, calls=f"{API}/call/")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the command says its addresses itself
            _, local, shared = page.launch(
                server_name=options.host,
                server_port=options.port,
                share=options.share,
                max_file_size=options.upload_mib << 20,
                mcp_server=options.mcp,
                app_kwargs={"middleware": [guard, checked], "docs_url": None, "redoc_url": None},
                footer_links=["api"] if options.api else [],
                run_history=False,
                enable_monitoring=False,
                ssr_mode=False,
                pwa=False,
                quiet=True,
                inbrowser=False,
                prevent_thread_lock=True,
                max_threads=MAX_THREADS,
                state_session_capacity=500,
                theme=theme(),
                css=shown.style(),
                allowed_paths=[],
                show_error=False,
            )
        if options.mcp:
            # Its tools are calls of the page's functions, by a client of its own, which nobody
            # could tell the password.
            page.mcp_server_obj._client_instance = Client(
                local, download_files=False, verbose=False, headers={INNER: inner}
            )
        yield local, shared or ""
    finally:
        jobs.close()
        page.close(verbose=False)


def _require_port(options: WebOptions) -> None:
    """Raises `UsageError` where nobody can listen there."""
    try:
        with contextlib.closing(socket.create_server((options.host, options.port))):
            pass
    except OSError as error:
        raise UsageError(
            f"cannot listen at {options.host}:{options.port}: {error.strerror or error}",
            "--port another one, or end what listens there",
        ) from error
