"""Pieces of the page as HTML: templates filled with what others wrote, all of it as text."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.commands.plans import Plan
from orchestrator.errors import KissError
from orchestrator.record.result_folder import PREVIEW_PNG, REPORT_HTML, RESULT_FILES
from orchestrator.report.page import templates_of
from orchestrator.system.terminal import as_typed
from orchestrator.system.text import format_size
from orchestrator.web.files import compare_url, run_url
from orchestrator.web.gallery import Card
from orchestrator.web.jobs import Job

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"
_GLB, _OBJ, _MATERIAL, _TEXTURE = (
    RESULT_FILES[artifact] for artifact in ("glb", "obj", "obj_material", "texture")
)
MAIN_FILES = (_GLB, _OBJ, _MATERIAL, _TEXTURE, PREVIEW_PNG, REPORT_HTML)
"""Offered first, in this order."""
FILES = {
    _GLB: "The mesh with its colours in one file: for viewers, Blender, games",
    _OBJ: f"The mesh as OBJ; {_MATERIAL} and {_TEXTURE} belong beside it",
    _MATERIAL: f"The material of {_OBJ}: keep it beside that",
    _TEXTURE: f"The texture of {_OBJ}: keep it beside that",
    PREVIEW_PNG: "What each stage has made, in one picture",
    REPORT_HTML: "A page about the run: its mesh, pictures, times and settings",
    ".ply": "The mesh with colours at its vertices",
    ".stl": "The shape alone, for 3D printing",
    ".3mf": "The shape for 3D printing, with its size",
    ".usdz": "The mesh for Apple's devices",
    ".png": "A picture that the run has made",
    ".jpg": "A picture that the run has made",
}
"""What files of a result are, by name or else by the name's end."""


_UPLOADED = re.compile(r"\S*[/\\]\.kiss3d-private-[^/\\]+[/\\]uploads[/\\][0-9a-f]+[/\\]")


_HINT = "\n  -> "
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_WORDS = (
    (re.compile(r"--device cpu\b"), "the CPU alone"),
    (re.compile(r"--text:"), "words:"),
    (re.compile(r"--text\b"), "words"),
    (re.compile(r"--profile (?=\w)"), "profile "),
    (re.compile(r"--(mask|back|left|right|background|seed|fast)\b"), r"\1"),
    (re.compile(r"--set (?=\w)"), ""),
    (re.compile(r"--target-vram\b"), "card memory"),
    (re.compile(r"--caption\b"), "description"),
)
"""The command line's words for what the page has fields for."""


def plainly(text: str) -> str:
    """A message as the page's users know things: an upload is its name, without this machine's
    folders before it, and no option of the command line is in it."""
    message, _, hint = _UPLOADED.sub("", text).partition(_HINT)
    told = hinted(hint)
    message = _in_words(message)
    return f"{message}{_HINT}{told}" if told else message


def hinted(hint: str) -> str:
    """What to do next, as far as the page has a way to do it. A whole command stays: somebody at
    this machine can give it."""
    parts = _UPLOADED.sub("", hint).split("; ")
    return "; ".join(part for part in map(_advice, parts) if part)


def _advice(part: str) -> str:
    if "kiss3d-orchestrate" in part:
        found = re.search(r"kiss3d-orchestrate (resume|run|batch)\b", part)
        return "" if found else as_typed(part)
    if "--device" in part:  # the page has no choice of it
        return ""
    told = _in_words(part)
    return "" if _OPTION.search(told) or told.startswith("`resume`") else told


def _in_words(text: str) -> str:
    if "kiss3d-orchestrate" in text:
        return as_typed(text)
    for pattern, words in _WORDS:
        text = pattern.sub(words, text)
    return text


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
    if not rows and card is not None and (job is None or job.over):
        rows = list(card.rows)
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
        notes=card.notes if card is not None and state not in ("running", "waiting") else (),
    )


def result_html(card: Card, files: Sequence[tuple[str, int]] | None) -> str:
    """What a run was given; its mesh in 3D, and its files to save.

    files: names and sizes; None while it goes on.
    """
    order = {name: number for number, name in enumerate(MAIN_FILES)}
    listed = sorted(files or (), key=lambda item: (order.get(item[0], len(order)), item[0]))
    over = files is not None
    return _render("result.html", card=card, files=listed, over=over, told=FILES)


def gallery_html(cards: Sequence[Card], states: Mapping[str, str]) -> str:
    """states: of the runs that this server works on, which know more than their records."""
    return _render("gallery.html", cards=cards, states=states)


def queue_html(jobs: Sequence[Job], at_once: int) -> str:
    return _render("queue.html", jobs=jobs, at_once=at_once)


def compare_html(names: Sequence[str]) -> str:
    return _render("compare.html", names=names)


def about_html(**facts: Any) -> str:
    return _render("about.html", **facts)


def _render(template: str, **facts: Any) -> str:
    return _environment().get_template(template).render(**facts)


@functools.cache
def _environment() -> jinja2.Environment:
    environment = templates_of(TEMPLATES)
    environment.globals |= {"run_url": run_url, "compare_url": compare_url}
    environment.filters["size"] = format_size
    environment.filters["as_typed"] = as_typed
    environment.filters["seconds"] = _rounded
    environment.filters["filesize"] = _file_size
    environment.filters["plainly"] = plainly
    environment.filters["hinted"] = hinted
    return environment
