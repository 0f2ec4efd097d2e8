"""The page's functions for programs: over HTTP (gradio_client, curl), and as tools of MCP.

Their names, arguments and docstrings are what such programs see; `orchestrator.web.calls` refuses
calls that lack some of the arguments.
"""

from __future__ import annotations

import asyncio
from typing import Any

import gradio as gr

from orchestrator.errors import KissError, UsageError
from orchestrator.web import actions, shown
from orchestrator.web.actions import Site
from orchestrator.web.choices import AUTO, Choices, Given
from orchestrator.web.options import WebOptions

_LOOK_SECONDS = 0.5
AT_ONCE = 64
"""Calls of `make_mesh` that may wait for their meshes at a time; a waiting one takes no thread."""


def add(site: Site, options: WebOptions) -> None:
    """Put the functions into the page that is being built, if they were asked for."""
    if not (options.api or options.mcp):
        return
    from orchestrator.web.form import mesh_file, picture_file

    async def make_mesh(
        picture: str | None,
        text: str = "",
        profile: str = AUTO,
        seed: str = "",
        fast: bool = False,
        mesh: str | None = None,
    ) -> dict[str, Any]:
        """Turn a picture of one object, words or a mesh into a textured 3D mesh; wait for it.

        Args:
            picture: The picture: data:image/png;base64,..., or the address of one that was
                uploaded to this server. None where there are words.
            text: What the object is, in words, in place of a picture; needs a graphics card.
            profile: "auto", or a name: "sketch" needs no graphics card and takes seconds.
            seed: A whole number; empty takes the profile's.
            fast: Take the profile's faster settings.
            mesh: In place of a picture, a mesh to be textured anew, in `text`'s words if there are
                any: GLB, PLY, STL, or a zip of an OBJ or glTF with its pictures, uploaded likewise.

        Returns:
            The run's name, its state ("done", "failed"), an error, and addresses of its files,
            mesh.glb among them, at this server.
        """
        told = submit(picture, text, profile, seed, fast, mesh)
        while told["state"] in ("waiting", "running"):
            await asyncio.sleep(_LOOK_SECONDS)
            told = actions.facts(site, told["run"])
        return told

    def submit(
        picture: str | None,
        text: str = "",
        profile: str = AUTO,
        seed: str = "",
        fast: bool = False,
        mesh: str | None = None,
    ) -> dict[str, Any]:
        """Put a picture of one object, words or a mesh in the queue, without waiting for its mesh.

        Args:
            picture: The picture: data:image/png;base64,..., or the address of one that was
                uploaded to this server. None where there are words.
            text: What the object is, in words, in place of a picture; needs a graphics card.
            profile: "auto", or a name: "sketch" needs no graphics card and takes seconds.
            seed: A whole number; empty takes the profile's.
            fast: Take the profile's faster settings.
            mesh: In place of a picture, a mesh to be textured anew, in `text`'s words if there are
                any: GLB, PLY, STL, or a zip of an OBJ or glTF with its pictures, uploaded likewise.

        Returns:
            The run's name, for `status` and `cancel`, and its state.
        """
        start = "text" if text and not picture else "picture"
        given = Given("mesh" if mesh else start, picture, mesh=mesh, text=text)
        try:
            if mesh and picture:
                raise UsageError("a mesh and a picture", "leave one of them out")
            job = actions.submit(site, given, Choices(profile, bool(fast), seed))
        except KissError as error:
            raise gr.Error(shown.plainly(str(error)), print_exception=False) from None
        return actions.facts(site, job.name)

    def status(run: str) -> dict[str, Any]:
        """Say what a run is doing, or what it has made.

        Args:
            run: The run's name.

        Returns:
            Its state, its stages with their steps, and addresses of its files when it is over.
        """
        return actions.facts(site, run)

    def cancel(run: str) -> dict[str, Any]:
        """Stop a run, or take it out of the queue. What it has finished is kept.

        Args:
            run: The run's name.

        Returns:
            Its state.
        """
        site.jobs.cancel(run)
        return actions.facts(site, run)

    def resume(run: str) -> dict[str, Any]:
        """Go on with a run that was interrupted or has failed.

        Args:
            run: The run's name.

        Returns:
            Its state.
        """
        try:
            site.jobs.resume(run)
        except KissError as error:
            raise gr.Error(shown.plainly(str(error)), print_exception=False) from None
        return actions.facts(site, run)

    def runs() -> list[dict[str, Any]]:
        """List the newest runs.

        Returns:
            Name, state, picture and profile of each.
        """
        return actions.listed(site)

    with gr.Column(visible=False):
        picture = picture_file(label="picture")
        text = gr.Textbox("", label="text")
        profile = gr.Textbox(AUTO, label="profile")
        seed = gr.Textbox("", label="seed")
        fast = gr.Checkbox(False, label="fast")
        run = gr.Textbox(label="run")
        told = gr.JSON(label="told")
        mesh = mesh_file(label="mesh")
        asked = [picture, text, profile, seed, fast, mesh]
        gr.Button().click(make_mesh, asked, told, api_name="make_mesh", concurrency_limit=AT_ONCE)
        gr.Button().click(submit, asked, told, api_name="submit")
        gr.Button().click(status, run, told, api_name="status", concurrency_limit=8)
        gr.Button().click(cancel, run, told, api_name="cancel")
        gr.Button().click(resume, run, told, api_name="resume")
        gr.Button().click(runs, None, told, api_name="runs")
