"""What the page's buttons, and the programs that call it, do. Nothing here knows of Gradio."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.commands.compare import MOST_RUNS
from orchestrator.commands.pictures import require_picture
from orchestrator.commands.plans import make_plan
from orchestrator.commands.subject import Subject, is_mesh, subject_of
from orchestrator.errors import InputFileError, KissError
from orchestrator.planning.options import Options
from orchestrator.planning.request import prepare
from orchestrator.record.run_directory import RESULT
from orchestrator.web import shown
from orchestrator.web.choices import AUTO, Choices, Given, options_of, reads_words
from orchestrator.web.files import result_files, run_url
from orchestrator.web.gallery import card, cards, newest
from orchestrator.web.jobs import Job, Jobs
from orchestrator.web.uploads import Uploads
from stages.contract.filetypes import HEAD, identify

MOST_SHOWN = 60
"""Runs of the gallery, and of the lists."""


@dataclass(frozen=True)
class Site:
    """All that one server has."""

    root: Path
    jobs: Jobs
    uploads: Uploads
    at_once: int


def plan(site: Site, given: Given, choices: Choices) -> str:
    """The plan as HTML, or why there is none; where nothing is given yet, that of any."""
    try:
        chosen = replace(options_of(choices, given.begins), start=given.begins)
        subject = _subject(site, given, chosen) if given.is_there else None
        return shown.plan_html(make_plan(subject, None, chosen))
    except KissError as error:
        return shown.error_html(error)


def submit(site: Site, given: Given, choices: Choices) -> Job:
    """Take a picture, a mesh or words. Raises `UsageError`s."""
    options = options_of(choices, given.begins)
    return site.jobs.submit(_subject(site, given, options), options)


def _subject(site: Site, given: Given, options: Options) -> Subject:
    """What a browser gave: files that it uploaded, and no others.

    Words beside a mesh are left out where the profile has no use for them: they may be those that
    were meant for another one. Raises `UsageError`s.
    """
    start = given.begins
    if start == "text":
        return subject_of([], given.words)
    first = given.mesh if start == "mesh" else given.picture
    files = [site.uploads.require(first, "mesh" if start == "mesh" else "picture")]
    if (start == "mesh") != is_mesh(files[0]):
        raise InputFileError(f"{files[0].name} is no {start}", f"choose a {start}")
    if start == "mesh":
        words = given.words or None
        if words and not reads_words(start, _profile(options)):
            words = None
        return subject_of(files, words)
    every = (given.back, given.left, given.right)
    sides = [site.uploads.require(one, "picture") if one else None for one in every]
    for path in [*files, *filter(None, sides)]:
        _require_picture(path)
    return subject_of(files, sides=sides)


def _profile(options: Options) -> str:
    """The profile that a mesh will get."""
    if options.profile != AUTO:
        return options.profile or AUTO
    return prepare(replace(options, start="mesh")).settings.name


def _require_picture(path: Path) -> None:
    """Refuse what the program would, and texts, which no picture is. Raises `InputFileError`."""
    try:
        with path.open("rb") as stream:
            head = stream.read(HEAD)
    except OSError as error:
        raise InputFileError(f"{path.name} is not here any more", "choose it again") from error
    require_picture(path, head)
    if identify(head) is None and _is_text(head):
        raise InputFileError(f"{path.name} is a text", "choose a picture: PNG, JPEG or WebP")


def _is_text(head: bytes) -> bool:
    """Whether the beginning of a file is UTF-8 without control characters; the last letter may be
    cut."""
    if not head or any(byte < 32 and byte not in b"\t\n\r\f" for byte in head):
        return False
    text = head.decode("utf-8", errors="ignore")
    return len(head) - len(text.encode()) <= 3


def look(site: Site, name: str) -> tuple[str, str, str]:
    """(state, what a run is doing as HTML, its result as HTML); "" of a run that there is not."""
    known = site.jobs.job(name) if name else None
    found = card(site.root, name) if name else None
    if known is None and found is None:
        return "", "", ""
    ahead = site.jobs.ahead_of(known) if known else 0
    state = known.state if known else found.state if found else ""
    status = shown.job_html(name, known, found, ahead)
    result = ""
    if found is not None:
        over = (known is None or known.over) and state != "running"
        result = shown.result_html(found, result_files(site.root, name) if over else None)
    return state, status, result


def gallery(site: Site) -> str:
    states = {job.name: job.state for job in site.jobs.active()}
    return shown.gallery_html(cards(site.root, MOST_SHOWN), states)


def queue(site: Site) -> str:
    return shown.queue_html(site.jobs.active(), site.at_once)


def names(site: Site) -> list[str]:
    """The runs of the lists, newest first."""
    return newest(site.root, MOST_SHOWN)


def compared(site: Site, chosen: list[str] | None) -> str:
    there = [name for name in chosen or [] if card(site.root, name)]
    return shown.compare_html(there[:MOST_RUNS])


def facts(site: Site, name: str) -> dict[str, Any]:
    """A run's state for programs. files: name -> address at this server."""
    job, found = site.jobs.job(name), card(site.root, name)
    if job is None and found is None:
        return {"run": name, "state": "unknown", "error": "there is no such run"}
    told: dict[str, Any] = {
        "run": name,
        "state": job.state if job else found.state if found else "",
        "error": shown.plainly(job.error if job else found.error if found else ""),
    }
    if job is not None and not job.over:
        rows, left = job.progress.rows()
        told["left"] = left
        told["ahead"] = site.jobs.ahead_of(job)
        told["stages"] = [
            {"stage": r.node, "state": r.state, "step": r.step, "total": r.total, "vram": r.vram}
            for r in rows
        ]
    else:
        told["files"] = {
            file: run_url(name, f"{RESULT}/{file}") for file, _ in result_files(site.root, name)
        }
    return told


def listed(site: Site) -> list[dict[str, Any]]:
    """The runs of the list for programs, newest first."""
    states = {job.name: job.state for job in site.jobs.active()}
    return [
        {
            "run": found.name,
            "state": states.get(found.name, found.state),
            "picture": found.picture,
            "profile": found.profile,
            "seconds": round(found.seconds, 1),
        }
        for found in cards(site.root, MOST_SHOWN)
    ]
