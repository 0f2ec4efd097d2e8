"""What the page's buttons, and the programs that call it, do. Nothing here knows of Gradio."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orchestrator.commands.compare import MOST_RUNS
from orchestrator.commands.plans import make_plan
from orchestrator.commands.subject import Subject, is_mesh, subject_of
from orchestrator.errors import InputFileError, KissError
from orchestrator.record.run_directory import RESULT
from orchestrator.system.inside import Inside
from orchestrator.web import shown
from orchestrator.web.choices import Choices, Given, options_of
from orchestrator.web.files import KINDS, run_url
from orchestrator.web.gallery import Card, card, cards, newest
from orchestrator.web.jobs import Job, Jobs
from orchestrator.web.uploads import Uploads

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
        subject = _subject(site, given) if given.is_there else None
        chosen = replace(options_of(choices, given.begins), start=given.begins)
        return shown.plan_html(make_plan(subject, None, chosen))
    except KissError as error:
        return shown.error_html(error)


def submit(site: Site, given: Given, choices: Choices) -> Job:
    """Take a picture, a mesh or words. Raises `UsageError`s."""
    return site.jobs.submit(_subject(site, given), options_of(choices, given.begins))


def _subject(site: Site, given: Given) -> Subject:
    """What a browser gave: files that it uploaded, and no others. Raises `UsageError`s."""
    start = given.begins
    if start == "text":
        return subject_of([], given.words)
    words = given.words or None
    first = given.mesh if start == "mesh" else given.picture
    files = [site.uploads.require(first, "mesh" if start == "mesh" else "picture")]
    if (start == "mesh") != is_mesh(files[0]):
        raise InputFileError(f"{files[0].name} is no {start}", f"choose a {start}")
    if start == "mesh":
        return subject_of(files, words)
    every = (given.back, given.left, given.right)
    sides = [site.uploads.require(one, "picture") if one else None for one in every]
    return subject_of(files, sides=sides)


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
    if found is not None and (known is None or known.over) and state != "running":
        result = shown.result_html(found, result_files(site, name))
    return state, status, result


def result_files(site: Site, name: str) -> list[tuple[str, int]]:
    """Names and sizes of what a run's result has for saving."""
    return [
        (entry.name, entry.size)
        for entry in Inside(site.root).entries(f"{name}/{RESULT}")
        if entry.is_file
        and not entry.name.startswith(".")
        and entry.name != "thumbnail.jpg"
        and Path(entry.name).suffix.lower() in KINDS
    ]


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
            file: run_url(name, f"{RESULT}/{file}") for file, _ in result_files(site, name)
        }
    return told


def listed(found: Card) -> dict[str, Any]:
    """A run of the list for programs."""
    return {
        "run": found.name,
        "state": found.state,
        "picture": found.picture,
        "profile": found.profile,
        "seconds": round(found.seconds, 1),
    }
