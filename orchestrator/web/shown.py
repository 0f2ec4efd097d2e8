"""Pieces of the page as HTML: templates filled with what others wrote, all of it as text."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.commands.plans import Plan
from orchestrator.errors import KissError
from orchestrator.system.terminal import visible
from orchestrator.system.text import format_size
from orchestrator.web.files import compare_url, run_url
from orchestrator.web.gallery import Card
from orchestrator.web.jobs import Job

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
MAIN_FILES = ("mesh.glb", "mesh.obj", "mesh.mtl", "mesh_color.png", "preview.png", "report.html")
"""Offered first, in this order."""


_UPLOADED = re.compile(r"\S*[/\\]\.kiss3d-private-[^/\\]+[/\\]uploads[/\\][0-9a-f]+[/\\]")


def plainly(text: str) -> str:
    """A message as the page's users know things: an upload is its name, without this machine's
    folders before it."""
    return _UPLOADED.sub("", text)


def style() -> str:
    return (TEMPLATES / "page.css").read_text(encoding="utf-8")


def plan_html(plan: Plan) -> str:
    """What a run would do: a sentence, what is missing, and a row for each stage."""
    return _render("plan.html", plan=plan, seconds=_seconds(plan), vram=format_size(plan.vram))


def _seconds(plan: Plan) -> str:
    """How long, in words, and on what: the measurements of cards and of CPUs are not added.

    "" where it is not known: nobody has measured it, or there is no card to know it of.
    """
    running = [row for row in plan.rows if not row.cached]
    if not running:
        return "all of it is there already"
    on_card = [row for row in running if row.device == "cuda"]
    counted = [row for row in (on_card or running) if row.expected]
    seconds = sum(row.expected.seconds for row in counted if row.expected)
    where = "on the card of the measurements" if on_card else "on two CPU cores"
    return f"about {_rounded(seconds)} {where}" if seconds else ""


def _rounded(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _file_size(size: int) -> str:
    return format_size(size) if size >= 1 << 20 else f"{max(1, size >> 10)} KiB"


def error_html(error: KissError) -> str:
    return _render("error.html", error=error)


def job_html(name: str, job: Job | None, card: Card | None, ahead: int) -> str:
    """What a run is doing, or how it ended."""
    rows, left = job.progress.rows() if job is not None else ([], "-")
    state = job.state if job is not None else card.state if card is not None else ""
    error = job.error if job is not None else card.error if card is not None else ""
    troubles = job.progress.troubles if job is not None and not job.over else []
    return _render(
        "job.html",
        name=name,
        state=state,
        error=error,
        rows=rows,
        left=left,
        ahead=ahead,
        card=card,
        troubles=troubles,
    )


def result_html(card: Card, files: Sequence[tuple[str, int]]) -> str:
    """A run's mesh in 3D, and its files to save. files: names and sizes."""
    order = {name: number for number, name in enumerate(MAIN_FILES)}
    listed = sorted(files, key=lambda item: (order.get(item[0], len(order)), item[0]))
    return _render("result.html", card=card, files=listed)


def gallery_html(cards: Sequence[Card], states: Mapping[str, str]) -> str:
    """states: of the runs that this server works on, which know more than their records."""
    return _render("gallery.html", cards=cards, states=states)


def queue_html(jobs: Sequence[Job], at_once: int) -> str:
    return _render("queue.html", jobs=jobs, at_once=at_once)


def compare_html(names: Sequence[str]) -> str:
    return _render("compare.html", names=names)


def picture_html(url: str) -> str:
    return _render("picture.html", url=url)


def about_html(**facts: Any) -> str:
    return _render("about.html", **facts)


def _render(template: str, **facts: Any) -> str:
    return _environment().get_template(template).render(**facts)


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_spelled_out,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"run_url": run_url, "compare_url": compare_url}
    environment.filters["size"] = format_size
    environment.filters["seconds"] = _rounded
    environment.filters["filesize"] = _file_size
    environment.filters["plainly"] = plainly
    return environment


def _spelled_out(value: Any) -> Any:
    """A text with characters that act spelled out; escaping follows."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value
