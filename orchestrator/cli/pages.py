"""`open` and `compare`: pages for the browser."""

from __future__ import annotations

from pathlib import Path

import click

from orchestrator.cli import answers, parameters
from orchestrator.system.terminal import say, say_json


@click.command("open")
@click.argument("run_dir", type=parameters.NamedPath())
@click.option("--no-browser", is_flag=True, help="Only say where the page is.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def open_page(run_dir: Path, no_browser: bool, as_json: bool) -> None:
    """Show in the browser what a run made, and how.

    RUN_DIR may be the directory of a run or of a batch. A run without a page gets one.
    """
    import webbrowser

    from orchestrator.commands.pages import page_of

    with answers.errors_as_json(as_json):
        page = page_of(run_dir).resolve()
    opened = False if no_browser else webbrowser.open(page.as_uri())
    if as_json:
        say_json({"report": str(page), "opened": opened})
        return
    if not opened and not no_browser:
        say("no browser was found here; any browser opens this file:", err=True)
    say(page)


@click.command()
@click.argument("runs", nargs=-1, required=True, type=parameters.NamedPath(), metavar="RUN...")
@click.option(
    "--truth",
    type=parameters.InputPath(),
    metavar="MESH",
    help="The true mesh: `evaluate` scores each run's mesh against it.",
)
@parameters.output_option("FILE", "Default: compare-<RUN>-<RUN>.html in the current folder.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def compare(runs: tuple[Path, ...], truth: Path | None, output: Path | None, as_json: bool) -> None:
    """Write a page with several runs side by side.

    Their meshes in 3D, their pictures, and the settings in which they differ.
    """
    from orchestrator.commands.compare import compare as write_page

    with answers.errors_as_json(as_json):
        page = write_page(runs, truth, output)
    if as_json:
        say_json({"report": str(page.resolve())})
        return
    say(page)
