"""The functions of the package: what the command line does, for a script, a thread, a notebook.

    run, batch, resume     return when it is done, or raise; Ctrl-C stops the work first
    start                  returns at once with a `Run` to `wait` for or to `cancel`
    plan, doctor           look, and start nothing

Each piece of work happens in a process of its own, so that nothing heavy is imported here, several
may go on at once, and one that crashes takes nobody with it. They share the machine's cards as
several command lines would: `--target-vram`, or one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from orchestrator.api.arguments import (
    AnyPath,
    absolute,
    checked,
    given_subject,
    path_of,
    require_known,
    require_listener,
)
from orchestrator.api.request import Request
from orchestrator.api.runs import Batch, Run, begin, carry_out, settings_as_sets
from orchestrator.commands.carry_out import BatchRequest
from orchestrator.commands.doctor import Check, checks
from orchestrator.commands.plans import Plan, make_plan
from orchestrator.commands.subject import Subject
from orchestrator.errors import UnknownNameError, UsageError
from orchestrator.planning.options import Options
from orchestrator.record.run_directory import OUTPUTS
from orchestrator.running.run_events import RunEvent

Listener = Callable[[RunEvent], None]
"""Is told what happens as it happens; must return quickly. What it raises cancels the work."""
Keep = Literal["all", "result", "mesh"]
Views = Literal["named", "auto"]


def run(
    file: AnyPath | None = None,
    *further: AnyPath,
    text: str | None = None,
    mask: AnyPath | None = None,
    back: AnyPath | None = None,
    left: AnyPath | None = None,
    right: AnyPath | None = None,
    profile: str = "auto",
    settings: Mapping[str, Any] | None = None,
    output: AnyPath | None = None,
    on_event: Listener | None = None,
    warm: bool = True,
    **more: Any,
) -> Run:
    """Turn a picture, a mesh or words into a mesh; returns when it is done.

        run("img.png")    run(text="a red vase")    run("model.glb", text="made of wood")

    file      of a picture or a mesh, told apart by what it holds
    further   pictures of its other sides, with views="auto", which finds out what each shows
    text      the object in words, in place of a file or with it
    mask      your own mask of the picture: white, or opaque, is the object
    back, left, right   pictures of the object's other sides, where `file` shows its front
    profile   as `--profile`: "sketch", "full_12gb", ...; auto: the best that this machine can run
    settings  values on top of the profile: {"isomer.stage2_steps": 2}, or nested
    output    the run directory; None: a new one in ./outputs
    on_event  is told each `RunEvent`, in this thread
    warm      processes may be forked from a warm one
    more      the other options of the command line: see `options`

    Raises `UsageError` (and its kinds) for what cannot be done as asked, before anything is made;
    `RunFailedError` for a run that failed, which is resumable, or that the file is no picture for:
    its exit_code is 2 then.
    """
    subject = given_subject(file, further, more.get("views"), text, mask, back, left, right)
    request = _run_request(subject, profile, settings, output, warm, more)
    return cast(Run, carry_out(Run, request, on_event))


def start(
    file: AnyPath | None = None,
    *further: AnyPath,
    text: str | None = None,
    mask: AnyPath | None = None,
    back: AnyPath | None = None,
    left: AnyPath | None = None,
    right: AnyPath | None = None,
    profile: str = "auto",
    settings: Mapping[str, Any] | None = None,
    output: AnyPath | None = None,
    on_event: Listener | None = None,
    warm: bool = True,
    **more: Any,
) -> Run:
    """As `run`, without waiting: `Run.wait()` returns, or raises, when it is done.

    on_event is told in a thread of the package's own. If this process ends before the work, that is
    stopped, and can be resumed.
    """
    subject = given_subject(file, further, more.get("views"), text, mask, back, left, right)
    request = _run_request(subject, profile, settings, output, warm, more)
    return cast(Run, begin(Run, request, on_event))


def resume(
    path: AnyPath,
    *,
    settings: Mapping[str, Any] | None = None,
    on_event: Listener | None = None,
    warm: bool = True,
    wait: bool = True,
    **more: Any,
) -> Run | Batch:
    """Go on with an interrupted or failed run, or batch: what is finished and unchanged is kept.

    settings  values to change before going on. wait: False returns at once, as `start` does.
    Raises as `run`; `RunRecordError` for a directory that holds no run, `RunLockedError` for one
    in which something works.
    """
    from orchestrator.commands import batch_directory

    where = path_of(path, "path")
    kind = Batch if batch_directory.is_batch(where) else Run
    chosen = _options(more, settings=settings)
    request = Request("resume", chosen, output=where, warm=warm)
    return carry_out(kind, request, on_event) if wait else begin(kind, request, on_event)


def batch(
    source: AnyPath,
    *,
    glob: str | None = None,
    recursive: bool = False,
    go_on: bool = False,
    fail_fast: bool = False,
    profile: str = "auto",
    settings: Mapping[str, Any] | None = None,
    output: AnyPath | None = None,
    keep: Keep | None = None,
    shard: str | None = None,
    ray: str | None = None,
    stage_in: bool = False,
    on_event: Listener | None = None,
    warm: bool = True,
    wait: bool = True,
    **more: Any,
) -> Batch:
    """Turn every picture or mesh of a folder, or every line of a list of words, into a mesh; each
    model is loaded once for all of them.

    source     a folder, or a list: "prompts.txt" with a description a line, or a CSV file
    glob       which files, "*.png"; recursive: look into subfolders
    go_on      with the batch in `output`; what is new joins it
    fail_fast  stop after the first that fails
    keep       what stays of each run; None: its result, of more than 500 the mesh alone
    shard      "I/N": part I of N alone, counted from 0, in a directory of its own below `output`,
               which all N share; `merge` puts them together
    ray        the address of a Ray cluster that does it, "auto" or "local": as --ray; returns when
               all is done. on_event hears all shards, and an event "pictures" with total, good and
               failed whenever some are through
    stage_in   with ray: inputs and results travel through Ray, so that no folder has to be shared
    wait       False: return at once, as `start` does

    A job that fails costs itself alone: `Batch.failed` names it. Raises `UsageError` when there
    is nothing to do.
    """
    if shard is not None and not isinstance(shard, str):
        raise UsageError(f"shard: {shard!r} is no text", 'shard="0/8": the first of eight')
    where = absolute(output, "output")
    folder = path_of(source, "source")
    asked = BatchRequest(folder, glob, recursive, where, go_on, fail_fast, shard)
    chosen = _options(more, profile=profile, settings=settings, keep=keep or "result")
    if ray is not None:
        from orchestrator.api import ray_batch

        require_listener(on_event)
        watch = ray_batch.heard_by(on_event)
        merged = ray_batch.batch(asked, chosen, keep is None, warm, ray, watch, stage_in)
        return Batch(merged.batch.path, rows=[one.row() for one in merged.outcomes])
    request = Request("batch", chosen, folder=asked, keep_is_open=keep is None, warm=warm)
    return cast(
        Batch, carry_out(Batch, request, on_event) if wait else begin(Batch, request, on_event)
    )


def merge(path: AnyPath) -> Batch:
    """Put the shards of a batch together: summary and page in `path`, as of one machine.

    `Batch.outcomes` and `Batch.failed` are of all pictures, those that no shard has begun or ended
    yet too (state "missing", "running" or "interrupted"). May be repeated at any time. Raises
    `RunRecordError` for a directory that no shards share.
    """
    from orchestrator.commands.merge import merge as put_together

    merged = put_together(path_of(path, "path"))
    return Batch(merged.batch.path, rows=[one.row() for one in merged.outcomes])


def candidates(
    file: AnyPath | None = None,
    *further: AnyPath,
    count: int = 4,
    text: str | None = None,
    mask: AnyPath | None = None,
    back: AnyPath | None = None,
    left: AnyPath | None = None,
    right: AnyPath | None = None,
    profile: str = "auto",
    settings: Mapping[str, Any] | None = None,
    output: AnyPath | None = None,
    on_event: Listener | None = None,
    warm: bool = True,
    wait: bool = True,
    **more: Any,
) -> Batch:
    """Make `count` runs of one object, of as many seeds, and score how well each mesh agrees with
    what was given: `Batch.best` is the best one. Arguments and errors as `run`.

    Raises `UsageError` where nothing depends on the seed, as in the profile sketch.
    """
    if type(count) is not int or count < 2:  # whatever the hint says: True is an int
        raise UsageError(f"count: {count!r} candidates", "a whole number from 2 on")
    subject = given_subject(file, further, more.get("views"), text, mask, back, left, right)
    chosen = replace(_options(more, profile=profile, settings=settings), candidates=count)
    where = absolute(output, "output")
    request = Request("candidates", chosen, subject, where, warm=warm)
    return cast(
        Batch, carry_out(Batch, request, on_event) if wait else begin(Batch, request, on_event)
    )


def plan(
    file: AnyPath | None = None,
    *further: AnyPath,
    text: str | None = None,
    mask: AnyPath | None = None,
    back: AnyPath | None = None,
    left: AnyPath | None = None,
    right: AnyPath | None = None,
    profile: str = "auto",
    settings: Mapping[str, Any] | None = None,
    output: AnyPath | None = None,
    **more: Any,
) -> Plan:
    """What `run` would do with the same arguments: node by node where, how much memory, how long,
    and what is cached. `Plan.refusal` says what is missing. Starts nothing."""
    subject = given_subject(file, further, more.get("views"), text, mask, back, left, right)
    chosen = _options(more, profile=profile, settings=settings)
    return make_plan(subject, absolute(output, "output"), chosen)


def doctor(outputs: AnyPath = OUTPUTS, *, profile: str = "auto", wait: bool = True) -> list[Check]:
    """What works on this machine, a row for each thing; wait: for libraries that load slowly."""
    return list(checks(Path(outputs), profile, wait))


def options(
    *,
    profile: str = "auto",
    settings: Mapping[str, Any] | None = None,
    config: AnyPath | None = None,
    seed: int | None = None,
    fast: bool = False,
    caption: str | None = None,
    background: str | None = None,
    device: str = "auto",
    target_vram: float = 0.0,
    host_ram: float = 0.0,
    allow_tf32: bool = False,
    until: str | None = None,
    from_node: str | None = None,
    formats: Sequence[str] = (),
    report: bool = True,
    keep: Keep = "all",
    views: Views = "named",
) -> Options:
    """What `run` and its like take besides, named as on the command line.

    config       a YAML file on top of the profile, as --config
    target_vram  GiB of the card that a process may take; host_ram: the same of host memory
    until        stop after this node; from_node: compute it and all after it again
    formats      more mesh files in the result: "stl", "3mf", "ply", "usdz"
    report       write result/report.html
    keep         what stays of a run that is done: "all", "result" or "mesh"
    views        "auto": find out which side of the object each of several pictures shows
    """
    if views not in ("named", "auto"):
        raise UnknownNameError("views", str(views), ("named", "auto"))
    if isinstance(formats, str):
        raise UsageError(f"formats: {formats!r} is one text", f'say ["{formats}"]')
    if not isinstance(formats, Sequence):
        raise UsageError(f"formats: {formats!r} is no list", 'say ["stl"]')
    given = {
        "profile": None if profile == "auto" and config is not None else profile,
        "config_file": absolute(config, "config"),
        "sets": settings_as_sets(settings),
        "seed": seed,
        "until": until,
        "from_node": from_node,
        "device": device,
        "target_vram": target_vram,
        "host_ram": host_ram,
        "caption": caption,
        "fast": fast,
        "allow_tf32": allow_tf32,
        "background": background,
        "formats": tuple(formats),
        "report": report,
        "keep": keep,
        "views": views,
    }
    return checked(given)


def _run_request(
    subject: Subject,
    profile: str,
    settings: Mapping[str, Any] | None,
    output: AnyPath | None,
    warm: bool,
    more: Mapping[str, Any],
) -> Request:
    chosen = _options(more, profile=profile, settings=settings)
    return Request("run", chosen, subject, absolute(output, "output"), warm=warm)


def _options(more: Mapping[str, Any], **named: Any) -> Options:
    """`options`, of a function's own arguments and what was named besides."""
    require_known(more, options)
    return options(**named, **more)
