"""From a request to a finished run directory: prepare, run, resume, list."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator import __version__, config, machine, models, report, vram
from orchestrator.artifacts import LOCK, MANIFEST, RunDirectory, as_output_error, run_lock
from orchestrator.auto import choose_profile
from orchestrator.budget import NO_LIMIT, Budget
from orchestrator.cache import CacheIndex, demote_stale
from orchestrator.config import Settings
from orchestrator.errors import (
    ConfigError,
    InputFileError,
    InterruptedRunError,
    KissError,
    OutputError,
    RunFailedError,
    RunRecordError,
    StageProcessError,
    UsageError,
)
from orchestrator.files import digest_bytes, printable, slug, write_atomic
from orchestrator.gpu import GpuMonitor
from orchestrator.graph import Graph
from orchestrator.jobs import Job
from orchestrator.leases import Card
from orchestrator.manifest import InputRecord, Manifest
from orchestrator.plan import PlanRow, predict
from orchestrator.progress import Observer
from orchestrator.runner import Runner
from orchestrator.workplace import Workplace

OUTPUTS = "outputs"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")


@dataclass(frozen=True)
class Options:
    """What the command line says about a run, before anything is looked up.

    profile     a name, "auto", or None for the one that `config_file` builds on (else auto)
    seed        None leaves the profile's; 0 is a seed like any other
    until       last node to compute; from_node: first node to compute again
    device      "auto", "cpu" or "cuda:<index>"
    target_vram  GiB of the card that a process may take; 0: what is free
    host_ram     GiB of host memory for weights; 0: what is available
    caption     the user's own, for the profile's caption stage
    fast        the profile's faster settings
    """

    profile: str | None = None
    config_file: Path | None = None
    sets: tuple[str, ...] = ()
    seed: int | None = None
    until: str | None = None
    from_node: str | None = None
    device: str = "auto"
    target_vram: float = 0.0
    host_ram: float = 0.0
    caption: str | None = None
    fast: bool = False


@dataclass(frozen=True)
class Prepared:
    """A request that has been checked against this machine: everything but the pictures.

    graph   what is asked for; whole: the profile's, without --until
    """

    options: Options
    settings: Settings
    reason: str
    graph: Graph
    whole: Graph
    cards: tuple[Card, ...]
    monitor: GpuMonitor
    workplace: Workplace | None = None
    budget: Budget = NO_LIMIT

    @property
    def seed(self) -> int:
        return self.settings.profile.seed


def prepare(options: Options, workplace: Workplace | None = None) -> Prepared:
    """Settle profile, graph and cards. Raises `UsageError`s; starts nothing."""
    monitor = GpuMonitor()
    name = options.profile or config.base_profile(options.config_file) or "auto"
    reason = "asked for"
    if name == "auto":
        name, reason = choose_profile(monitor)
    sets = list(options.sets)
    if options.seed is not None:
        sets.append(f"seed={options.seed}")
    settings = config.load(name, options.config_file, sets, options.fast)
    if options.caption is not None:
        sets += config.sets_for_caption(settings.profile, options.caption)
        settings = config.load(name, options.config_file, sets, options.fast)
    cards = choose_cards(options.device, monitor)
    budget = vram.budget_for(options.target_vram, options.host_ram, cards, monitor)
    whole = _graph_of(settings, options.device, cards, budget)
    graph = whole.until(options.until) if options.until else whole
    if options.from_node:
        whole.require(options.from_node)
        if options.from_node not in graph.nodes:
            raise UsageError(
                f"--from {options.from_node} lies behind --until {options.until}",
                "nothing would be computed",
            )
    _warm_up(graph, workplace)
    return Prepared(options, settings, reason, graph, whole, cards, monitor, workplace, budget)


def _warm_up(graph: Graph, workplace: Workplace | None) -> None:
    """The template imports for the first nodes while the run directory is being made."""
    if workplace is None or workplace.template is None:
        return
    for node in itertools.islice(graph.nodes.values(), 2):
        with contextlib.suppress(StageProcessError):  # the hub will meet it too, and start cold
            workplace.template.preload(node.preload)


def _graph_of(settings: Settings, device: str, cards: Sequence[Card], budget: Budget) -> Graph:
    """The profile's graph with the rungs that this machine can try. Raises `UsageError`."""
    graph = Graph.from_profile(settings.profile).on_device(device)
    if device == "cpu":
        return graph
    return vram.fit(graph, budget, vram.table()) if cards else graph


def choose_cards(device: str, monitor: GpuMonitor) -> tuple[Card, ...]:
    """The cards that `--device` allows. Raises `UsageError` for one that is not there."""
    gpus = monitor.gpus()
    if device == "cpu":
        return ()
    if device == "auto":
        return tuple(Card(g.index, g.uuid, g.name) for g in gpus)
    kind, _, index = device.partition(":")
    if kind != "cuda" or not (index or "0").isdigit():
        raise UsageError(f'unknown device "{device}"', "auto, cpu, cuda:0, cuda:1, ...")
    wanted = int(index or 0)
    for gpu in gpus:
        if gpu.index == wanted:
            return (Card(gpu.index, gpu.uuid, gpu.name),)
    listed = ", ".join(f"cuda:{g.index} {g.name}" for g in gpus) or monitor.why_not
    raise UsageError(f"there is no {kind}:{wanted} here ({listed})", "--device auto or cpu")


def read_picture(path: Path, limit_mib: int) -> bytes:
    """The input file's bytes. Raises `InputFileError`."""
    try:
        if path.is_dir():
            raise InputFileError(f"{path} is a directory", "`kiss3d-orchestrate batch` takes those")
        size = path.stat().st_size
        if size > limit_mib << 20:
            raise InputFileError(
                f"{path} has {size / 2**20:.0f} MiB, more than {limit_mib} MiB",
                "--set runtime.max_input_mib=N raises the limit",
            )
        if size == 0:
            raise InputFileError(f"{path} is empty", "give a PNG, JPEG, WebP, BMP, TIFF or GIF")
        return path.read_bytes()
    except FileNotFoundError:
        raise InputFileError(f"{path} does not exist", "check the path") from None
    except OSError as error:
        raise InputFileError(f"cannot read {path}: {error.strerror or error}") from error


def new_run_path(root: Path, source: Path) -> Path:
    """Make outputs/<input>-<time>, with a number behind it if that exists, and return it.

    Making it is what claims it: two runs that start in one second get two directories.
    Raises `OutputError`.
    """
    stem = f"{slug(source.stem)}-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        for suffix in itertools.chain([""], (f"-{number}" for number in itertools.count(2))):
            with contextlib.suppress(FileExistsError):
                (root / f"{stem}{suffix}").mkdir()
                return root / f"{stem}{suffix}"
    except OSError as error:
        raise OutputError(f"cannot write to {root}: {error.strerror or error}") from error
    raise AssertionError("unreachable: the count has no end")


def open_or_create(prepared: Prepared, source: Path, path: Path) -> RunDirectory:
    """The run directory for a picture: a new one, or a known one that is being run again.

    The caller holds its lock. Raises `InputFileError`, `OutputError` (the directory holds something
    else) or `RunRecordError`.
    """
    if (path / MANIFEST).is_file():
        return _open_again(prepared, source, RunDirectory.open(path))
    picture = read_picture(source, prepared.settings.profile.runtime.max_input_mib)
    try:
        taken = path.is_dir() and any(entry.name != LOCK for entry in path.iterdir())
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror or error}") from error
    if taken or path.is_file():
        raise OutputError(f"{path} is not empty and holds no run", "choose another --output")
    suffix = source.suffix.lower() if source.suffix.lower() in SUFFIXES else ".img"
    record = InputRecord(
        source=printable(source.resolve()),
        file=f"input{suffix}",
        size=len(picture),
        digest=digest_bytes(picture),
    )
    return RunDirectory.create(path, _describe(prepared, record, None), picture)


def _open_again(prepared: Prepared, source: Path, run: RunDirectory) -> RunDirectory:
    """A known run for the same picture; the picture itself may be gone, the copy serves."""
    record = run.manifest.input
    if source.exists() or printable(source.resolve()) != record.source:
        picture = read_picture(source, prepared.settings.profile.runtime.max_input_mib)
        if digest_bytes(picture) != record.digest:
            raise OutputError(
                f"{run.path} holds a run of another picture ({record.source})",
                "choose another --output",
            )
        write_atomic(run.input_path, picture)
    run.check_input()
    run.manifest = _describe(prepared, record, run.manifest)
    return run


def _describe(prepared: Prepared, record: InputRecord, old: Manifest | None) -> Manifest:
    """The manifest's head for this request; rows of an earlier go are kept."""
    return Manifest(
        version=__version__,
        profile=prepared.settings.name,
        profile_reason=prepared.reason,
        seed=prepared.seed,
        created=old.created if old else time.time(),
        input=record,
        settings=prepared.settings.profile.model_dump(mode="json"),
        sources=dict(prepared.settings.sources),
        until=prepared.options.until or "",
        device=prepared.options.device,
        target_vram=prepared.options.target_vram,
        host_ram=prepared.options.host_ram,
        machine=machine.describe(prepared.monitor),
        nodes=old.nodes if old else {},
    )


def execute(
    prepared: Prepared,
    runs: Sequence[tuple[str, RunDirectory]],
    observer: Observer,
    cache: CacheIndex | None,
    log_folder: Path | None = None,
    only: str | None = None,
    fail_fast: bool = False,
) -> list[Job]:
    """Run jobs to their end and write their results. Each run must be locked by the caller.

    only: compute just this node, again, from what its run holds.
    Raises `InterruptedRunError`, and whatever else ends the whole thing, after saving manifests.
    """
    graph = Graph([prepared.graph.require(only)]) if only else prepared.graph
    forced = frozenset({only} if only else _forced(prepared))
    jobs = [Job(name, run, graph, prepared.whole, forced) for name, run in runs]
    runner = Runner(
        graph,
        jobs,
        prepared.settings.profile.runtime,
        prepared.cards,
        prepared.monitor,
        observer,
        cache,
        log_folder,
        prepared.workplace,
        fail_fast,
        _close_books,
        prepared.budget,
    )
    for job in jobs:
        demote_stale(job.whole, job.run)
        job.run.manifest.state = "running"
        job.run.event("begin", profile=prepared.settings.name, seed=prepared.seed)
    try:
        runner.run()
    finally:
        for job in jobs:
            if not job.closed:
                _close_books(job)
            elif job.unsaved:
                with contextlib.suppress(OSError):
                    job.run.save()
    return jobs


def _forced(prepared: Prepared) -> set[str]:
    first = prepared.options.from_node
    return {first, *prepared.graph.descendants(first)} if first else set()


def require_upstream(prepared: Prepared, run: RunDirectory, cache: CacheIndex | None) -> None:
    """--from promises that nothing before it is computed: it must all be there."""
    first = prepared.options.from_node
    if not first:
        return
    rows = {row.node: row for row in predict(prepared.graph, run, prepared.seed, cache)}
    missing = sorted(n for n in prepared.graph.ancestors(first) if not rows[n].cached)
    if missing:
        raise ConfigError(
            f"--from {first}: {', '.join(missing)} would have to run too "
            f"({rows[missing[0]].reason})",
            "leave --from out, or name a run that has them with --output",
        )


def require_weights(prepared: Prepared, run: RunDirectory, cache: CacheIndex | None) -> None:
    """Nodes that will run need weights that are here: said before any stage starts.

    Raises `MissingWeightsError`.
    """

    def will_run() -> set[str]:
        rows = predict(prepared.graph, run, prepared.seed, cache, frozenset(_forced(prepared)))
        return to_run(rows)

    models.require(prepared.graph, bool(prepared.cards), will_run)


def to_run(rows: Iterable[PlanRow]) -> set[str]:
    """Names of the nodes that a plan does not take from the cache."""
    return {row.node for row in rows if not row.cached}


def _close_books(job: Job) -> None:
    """Bring the manifest to its final state, assemble result/, save."""
    manifest = job.run.manifest
    for record in manifest.nodes.values():
        if record.state == "running":
            record.state = "pending"
    demote_stale(job.whole, job.run)
    manifest.finished, manifest.wall_seconds = time.time(), time.monotonic() - job.started
    manifest.error = job.error
    wanted = job.whole.until(manifest.until) if manifest.until else job.whole
    if all(manifest.nodes[n].state == "done" for n in wanted.nodes if n in manifest.nodes):
        manifest.state = "done"
    else:
        manifest.state = "failed" if job.error else "interrupted"
    job.run.discard_partial()
    with contextlib.suppress(OSError):  # a full disk has been reported by then
        report.write_result(job.run)
        job.run.save()
    job.run.event("end", state=manifest.state, seconds=round(manifest.wall_seconds, 3))


def run_one(
    source: Path,
    output: Path | None,
    prepared: Prepared,
    observer: Observer,
    on_open: Callable[[RunDirectory], None] = lambda run: None,
) -> RunDirectory:
    """`run IMG`: raises `RunFailedError` or `InterruptedRunError` with the way to resume.

    on_open is told the run directory as soon as work begins in it.
    """
    read_picture(source, prepared.settings.profile.runtime.max_input_mib)  # before anything is made
    root = Path(OUTPUTS)
    path = output or new_run_path(root, source)
    with contextlib.ExitStack() as stack:
        with as_output_error(path):
            path.mkdir(parents=True, exist_ok=True)
        stack.enter_context(run_lock(path))
        known = (path / MANIFEST).is_file()
        run = open_or_create(prepared, source, path)
        try:
            cache = None if output else CacheIndex(root)
            if prepared.options.from_node:
                require_upstream(prepared, run, cache)
            require_weights(prepared, run, cache)
        except UsageError:
            if not known:
                shutil.rmtree(path, ignore_errors=True)
            raise
        on_open(run)
        finish_one(prepared, run, observer, cache)
    return run


def plan(prepared: Prepared, source: Path, output: Path | None) -> list[PlanRow]:
    """What `run_one` would do with this picture, without writing anything."""
    return predict_picture(prepared, source, output, None if output else CacheIndex(Path(OUTPUTS)))


def predict_picture(
    prepared: Prepared, source: Path, output: Path | None, cache: CacheIndex | None
) -> list[PlanRow]:
    """The plan for one picture, whose run directory (None: a new one) need not exist."""
    picture = read_picture(source, prepared.settings.profile.runtime.max_input_mib)
    record = InputRecord(
        source=str(source), file="input.img", size=len(picture), digest=digest_bytes(picture)
    )
    known = None
    if output is not None and (output / MANIFEST).is_file():
        known = RunDirectory.open(output).manifest
    run = RunDirectory(output or Path(OUTPUTS), _describe(prepared, record, known))
    force = frozenset(_forced(prepared))
    return list(predict(prepared.graph, run, prepared.seed, cache, force, prepared.budget))


def finish_one(
    prepared: Prepared,
    run: RunDirectory,
    observer: Observer,
    cache: CacheIndex | None,
    only: str | None = None,
) -> None:
    """Execute one locked run; failure is raised with what to do next."""
    run.check_input()
    try:
        jobs = execute(prepared, [(run.path.name, run)], observer, cache, only=only)
    except InterruptedRunError as error:
        raise InterruptedRunError(error.message, f"kiss3d-orchestrate resume {run.path}") from error
    if not jobs[0].succeeded:
        raise failure_of(run)


def failure_of(run: RunDirectory) -> KissError:
    """The error that a failed run ends with: which node, what, and the way on."""
    for name, record in run.manifest.nodes.items():
        if record.state == "failed":
            last = record.attempts[-1] if record.attempts else None
            kind = last.outcome if last else "failed"
            cause = (last.message if last else "") or record.reason
            hint = last.hint if last else ""
            error = RunFailedError(f"{run.manifest.input.source}: {name} failed ({kind}): {cause}")
            if kind == "bad_input":
                error.exit_code = UsageError.exit_code
                error.hint = hint
            else:
                resume = f"kiss3d-orchestrate resume {run.path}"
                error.hint = f"{hint}; then: {resume}" if hint else resume
            return error
    return RunFailedError(f"{run.manifest.input.source}: {run.manifest.error or 'not finished'}")


def prepared_for(
    run: RunDirectory, options: Options, workplace: Workplace | None = None
) -> Prepared:
    """The request that a run directory records, for `resume` and `stage --run`.

    The profile is the one that was effective then, even if its file has changed since.
    """
    manifest = run.manifest
    try:
        settings = config.from_record(
            manifest.profile, manifest.settings, manifest.sources, options.sets
        )
    except KissError as error:
        raise RunRecordError(f"{run.path}: {error.message}", error.hint) from error
    monitor = GpuMonitor()
    device = manifest.device if options.device == "auto" else options.device
    options = replace(
        options,
        device=device,
        until=manifest.until or None,
        target_vram=options.target_vram or manifest.target_vram,
        host_ram=options.host_ram or manifest.host_ram,
    )
    cards = choose_cards(device, monitor)
    budget = vram.budget_for(options.target_vram, options.host_ram, cards, monitor)
    whole = _graph_of(settings, device, cards, budget)
    graph = whole.until(manifest.until) if manifest.until else whole
    reason = manifest.profile_reason
    return Prepared(options, settings, reason, graph, whole, cards, monitor, workplace, budget)


def find_runs(root: Path) -> Iterator[RunDirectory]:
    """All runs below a folder, oldest first; what has no readable run.json is skipped."""
    found = []
    for file in root.glob(f"**/{MANIFEST}"):
        with contextlib.suppress(RunRecordError):
            found.append(RunDirectory.open(file.parent))
    yield from sorted(found, key=lambda run: run.manifest.created)
