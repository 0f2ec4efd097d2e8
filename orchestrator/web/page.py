"""The page: its parts, and which button calls which action."""

from __future__ import annotations

from typing import Any

import gradio as gr

from orchestrator.errors import KissError, UsageError, brief
from orchestrator.web import actions, form, http_api, shown
from orchestrator.web.actions import Site
from orchestrator.web.choices import Choices, Given
from orchestrator.web.options import WebOptions

TICK_SECONDS = 1.0
CALM_SECONDS = 5.0
"""Between two looks at the queue, for a page on which nothing is going on."""
BEGIN = "<p class='k3-quiet'>Choose what to make it of, and make the mesh.</p>"
SHOW_RUN = """() => setTimeout(() => {
  const here = new URL(window.location);
  const shown = document.querySelector("#status [data-run]");
  if (shown) here.searchParams.set("run", shown.dataset.run);
  window.history.replaceState(null, "", here);
  const status = document.querySelector("#status");
  const seen = status.getBoundingClientRect();
  if (seen.top > window.innerHeight * 0.6 || seen.bottom < 0) {
    status.scrollIntoView({behavior: "smooth", block: "start"});
  }
}, 300)"""
"""Puts the run into the address, so that a page that is loaded again shows it, and shows what it is
doing where that is outside of a small window."""


def build(site: Site, options: WebOptions) -> Any:
    """The page as Gradio's Blocks."""
    with gr.Blocks(title="kiss3d-orchestrate", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(
            "<div class='k3-head'><h1>A picture into a 3D mesh</h1>"
            "<p>Kiss3DGen, each stage in a process of its own. All of it happens on this machine."
            "</p></div>"
        )
        queue = gr.HTML(actions.queue(site), elem_id="queue")
        current = gr.State("")
        seen = gr.State(("", ""))
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Make", id="make"):
                made = _make_tab(site)
            with gr.Tab("Runs", id="runs"):
                listed = _runs_tab()
            with gr.Tab("Compare", id="compare"):
                chosen = _compare_tab()
            with gr.Tab("Help", id="help"):
                from orchestrator import __version__

                gr.HTML(
                    shown.about_html(
                        output=str(options.output),
                        api=options.api,
                        mcp=options.mcp,
                        version=__version__,
                        upload_mib=options.upload_mib,
                        at_once=options.at_once,
                        waiting=options.waiting,
                    )
                )
        _wire(site, page, queue, current, seen, made, listed, chosen)
        http_api.add(site, options)
    return page


def _make_tab(site: Site) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    with gr.Row(elem_id="parts"):
        with gr.Column(scale=2, min_width=320):
            parts["form"] = form.build()
            parts["plan"] = gr.HTML(actions.plan(site, Given(), Choices()), elem_id="plan")
        with gr.Column(scale=3, min_width=360):
            parts["status"] = gr.HTML(BEGIN, elem_id="status")
            with gr.Row():
                parts["cancel"] = gr.Button("Cancel", visible=False, elem_id="cancel")
                parts["resume"] = gr.Button("Go on with it", visible=False, elem_id="resume")
            parts["result"] = gr.HTML("", elem_id="result")
    return parts


def _runs_tab() -> dict[str, Any]:
    refresh = gr.Button("Look again", size="sm")
    return {"refresh": refresh, "gallery": gr.HTML("", elem_id="gallery")}


def _compare_tab() -> dict[str, Any]:
    runs = gr.Dropdown([], multiselect=True, label="Runs to compare", elem_id="compared")
    return {"runs": runs, "view": gr.HTML("", elem_id="comparison")}


def _wire(
    site: Site,
    page: Any,
    queue: Any,
    current: Any,
    seen: Any,
    made: dict[str, Any],
    listed: dict[str, Any],
    chosen: dict[str, Any],
) -> None:
    asked: form.Form = made["form"]
    looked = [made["status"], made["result"], made["cancel"], made["resume"], queue, seen]
    hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

    def look(name: str, before: tuple[str, str], force: bool = False) -> list[Any]:
        """Status and result of the page's run. A result is sent once: it holds the 3D view."""
        state, status, result = actions.look(site, name)
        if not state and not name:
            return [gr.skip()] * 4 + [actions.queue(site), before]
        now = (name, state)
        again = force or now != tuple(before)
        return [
            status,
            result if again else gr.skip(),
            gr.update(visible=state in ("running", "waiting")) if again else gr.skip(),
            gr.update(visible=state in ("interrupted", "failed")) if again else gr.skip(),
            actions.queue(site),
            now,
        ]

    def plan(*values: Any) -> str:
        return actions.plan(site, *form.read(values))

    def refused(error: KissError) -> list[Any]:
        """The page shows no run then, whose state would take the place of the words."""
        gone = gr.update(visible=False)
        return ["", shown.error_html(error), "", gone, gone, actions.queue(site), ("", "")]

    def go(*values: Any) -> list[Any]:
        try:
            job = actions.submit(site, *form.read(values))
        except KissError as error:
            return refused(error)
        return [job.name, *look(job.name, ("", ""), force=True)]

    def clear(name: str) -> Any:
        """Words about what was asked before go; the state of a run stays."""
        return gr.skip() if name else BEGIN

    def press_cancel(name: str, before: tuple[str, str]) -> list[Any]:
        site.jobs.cancel(name)
        return look(name, before)

    def press_resume(name: str, before: tuple[str, str]) -> list[Any]:
        try:
            site.jobs.resume(name)
        except KissError as error:
            return [shown.error_html(error), *[gr.skip()] * 4, before]
        return look(name, before, force=True)

    def arrive(request: gr.Request) -> list[Any]:
        """A page that is loaded shows the run that its address names."""
        name = str(request.query_params.get("run", ""))
        if name and not actions.look(site, name)[0]:
            error = UsageError(f"there is no run {brief(name)} here", "the tab Runs lists them all")
            return refused(error)
        return [name, *look(name, ("", ""), force=True)]

    def gallery() -> str:
        return actions.gallery(site)

    def names() -> Any:
        return gr.update(choices=actions.names(site))

    def compare(runs: list[str]) -> str:
        return actions.compared(site, runs)

    inputs = asked.inputs
    changes = [part.change for part in inputs]
    groups = [asked.groups[name] for name in ("picture", "mesh", "text")]
    asked.start.change(form.shown_for, asked.start, [*groups, asked.profile], **hidden)
    asked.start.change(clear, current, made["status"], **hidden)
    asked.profile.change(form.words_for, [asked.start, asked.profile], groups[2], **hidden)
    gr.on([*changes, page.load], plan, inputs, made["plan"], trigger_mode="always_last", **hidden)
    asked.go.click(go, inputs, [current, *looked], concurrency_id="take", **hidden).then(
        None, None, None, js=SHOW_RUN
    )
    made["cancel"].click(press_cancel, [current, seen], looked, **hidden)
    made["resume"].click(press_resume, [current, seen], looked, **hidden)
    page.load(arrive, None, [current, *looked], **hidden)
    page.load(gallery, None, listed["gallery"], **hidden)
    page.load(names, None, chosen["runs"], **hidden)
    listed["refresh"].click(gallery, None, listed["gallery"], **hidden)
    listed["refresh"].click(names, None, chosen["runs"], **hidden)
    chosen["runs"].change(compare, chosen["runs"], chosen["view"], **hidden)
    timer = gr.Timer(TICK_SECONDS)
    timer.tick(look, [current, seen], looked, concurrency_limit=8, **hidden)
    seen.change(gallery, None, listed["gallery"], **hidden)
    seen.change(names, None, chosen["runs"], **hidden)
