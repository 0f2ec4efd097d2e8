"""`web`: the program in a browser."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.cli import parameters
from orchestrator.system.stop_signals import STOP
from orchestrator.system.terminal import say

if TYPE_CHECKING:
    from orchestrator.web.options import WebOptions


@click.command()
@parameters.output_option("DIR", "Where the runs are, and new ones go. Default: outputs.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen. 0.0.0.0: whoever reaches this machine may come in; see --auth.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True)
@click.option(
    "--share", is_flag=True, help="A public address for a week, through Gradio's own servers."
)
@click.option(
    "--auth",
    "auths",
    multiple=True,
    metavar="USER:PASSWORD|FILE",
    help="Who may come in; several times, or a file with such lines.",
)
@click.option("--api", is_flag=True, help="An HTTP API for programs.")
@click.option("--mcp", is_flag=True, help="The same as tools of an MCP server.")
@click.option(
    "--jobs",
    "at_once",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Runs that compute at a time.",
)
@click.option(
    "--queue",
    "waiting",
    type=click.IntRange(1, 10_000),
    default=32,
    show_default=True,
    help="Runs that may wait for their turn; more are refused.",
)
@click.option(
    "--max-upload",
    "upload_mib",
    type=click.IntRange(1, 4096),
    default=64,
    show_default=True,
    metavar="MIB",
    help="The largest file that is taken.",
)
@click.option("--open", "browse", is_flag=True, help="Show the page in the browser.")
def web(
    output: Path | None,
    host: str,
    port: int,
    share: bool,
    auths: tuple[str, ...],
    api: bool,
    mcp: bool,
    at_once: int,
    waiting: int,
    upload_mib: int,
    browse: bool,
) -> int:
    """Make meshes in the browser: a page on this machine.

    Runs are the same directories that the command line makes: closing the page or the server loses
    nothing, and either goes on with the other's.
    """
    from orchestrator.record.run_directory import OUTPUTS
    from orchestrator.web.options import WebOptions, read_auth, require_gradio

    require_gradio()
    options = WebOptions(
        output or Path(OUTPUTS),
        host,
        port,
        share,
        read_auth(auths),
        at_once,
        waiting,
        upload_mib,
        api,
        mcp,
    )
    with contextlib.suppress(KeyboardInterrupt):  # a server's usual end, and no news
        _serve(options, browse)
    return STOP.exit_code


def _serve(options: WebOptions, browse: bool) -> None:
    """Until a signal comes."""
    import threading

    from orchestrator.web.server import serving

    with serving(options) as (local, shared):
        say(f"runs are in {options.output.resolve()}", err=True)
        if not options.is_local and not options.auth:
            say("warning: whoever reaches this address may come in: --auth asks who", err=True)
        say(local)
        if shared:
            say(shared)
        for wanted, where in ((options.api, "?view=api"), (options.mcp, "gradio_api/mcp/")):
            if wanted:
                say(f"{local}{where}", err=True)
        if browse:
            import webbrowser

            webbrowser.open(local)
        threading.Event().wait()
