"""Fixtures for all tests: fake stages as a registered package, runs in temporary folders, and a
check after every test that nothing is left behind."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from hypothesis import HealthCheck, settings

from devtools.fakes.forked import Forked
from devtools.fakes.tools import ROOT, cli_environment, command
from devtools.patience import PATIENCE
from orchestrator.processes.environment import keep_bytecode
from orchestrator.system.private_folders import PREFIX

# A busy machine takes its time over an example, and over making one up.
settings.register_profile(
    "patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("patient")

ENTRY_POINTS = """[kiss3d.stages]
fake.source = devtools.fakes.stages:Source
fake.trouble = devtools.fakes.stages:Trouble
fake.sink = devtools.fakes.stages:Sink
fake.cast = devtools.fakes.stages:Cast
fake.slow_sink = devtools.fakes.stages:SlowSink
fake.shelling = devtools.fakes.stages:Shelling
fake.shapes = devtools.fakes.stages:Shapes
fake.cuda = devtools.fakes.cuda:Cuda
fake.encode = devtools.fakes.stages:Encode
fake.seeded = devtools.fakes.seeded:Seeded
fake.words = devtools.fakes.captioned:Words
fake.embed = devtools.fakes.captioned:Embed
fake.draw = devtools.fakes.captioned:Draw
fake.egg = devtools.fakes.egg:Egg
fake.hostile = devtools.fakes.hostile:Hostile
"""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported for thousands of tests stays. Looked through for garbage again and again, it
    made collecting them a quarter longer, and each call of `gc.collect` by half a second."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def fake_package(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Make `devtools/fakes` look like an installed package that registers stages."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / "kiss3d_fakes-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: kiss3d-fakes\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    added = [str(folder), str(ROOT)]
    sys.path[:0] = added
    os.environ["PYTHONPATH"] = os.pathsep.join([*added, os.environ.get("PYTHONPATH", "")])


@pytest.fixture(scope="session", autouse=True)
def own_temporary_folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep this session's temporary files apart from those of others on the machine."""
    folder = tmp_path_factory.mktemp("tmp")
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None  # forget the folder that was looked up before


@pytest.fixture(scope="session", autouse=True)
def bytecode_is_kept() -> None:
    """As `bin/test` has it, also where pytest was called itself: else every program that a test
    starts compiles all that it imports."""
    keep_bytecode(os.environ)


@pytest.fixture(scope="session", autouse=True)
def signals_reach_children() -> None:
    """Under nohup, or behind `&` in a script, signals are ignored, and children inherit that. A
    handler is what they do not inherit."""
    for name in ("SIGINT", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """The program, run in this process, ignores signals when it is over: not for other tests."""
    numbers = [getattr(signal, n) for n in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, n)]
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def nothing_left(forked: Forked | None) -> Iterator[None]:
    """After every test: no child process and no private folder that was not there before it."""
    folders, known = private_folders(), children()
    yield
    deadline = time.monotonic() + 60.0
    while (left := _news(known)) and time.monotonic() < deadline:
        time.sleep(0.02)
    said = f"processes left behind: {left}"
    end(left)  # the tests that follow start from nothing, and do not wait for these again
    assert not left, said
    assert private_folders() <= folders


def _news(known: set[psutil.Process]) -> list[psutil.Process]:
    """Children that are not in `known`, but for helpers that a browser in it has started since: it
    serves several tests, and keeps them."""
    return [one for one in children() - known if not _helps_a_browser(one, known)]


def _helps_a_browser(process: psutil.Process, known: set[psutil.Process]) -> bool:
    try:
        name = process.name()
        return "chrom" in name and any(
            parent in known and parent.name() == name for parent in process.parents()
        )
    except psutil.NoSuchProcess:
        return False


def children() -> set[psutil.Process]:
    """All below this process, also those that have ended and were not waited for."""
    if not _CHILDREN_ARE_LISTED:
        return set(psutil.Process().children(recursive=True))
    # Two looks have to agree: when a thread ends, its children are handed to another one, and may
    # be in neither list that was read.
    numbers, before = _below(os.getpid()), None
    while numbers != before:
        numbers, before = _below(os.getpid()), numbers
    found = set()
    for number in numbers:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.add(psutil.Process(number))
    return found


_CHILDREN_ARE_LISTED = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").exists()
"""Linux lists a process's children. Elsewhere all processes are asked for their parents, which
takes longer than many a test."""


def _below(process: int) -> set[int]:
    numbers = set()
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        for thread in os.listdir(f"/proc/{process}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                listed = Path(f"/proc/{process}/task/{thread}/children").read_text()
                numbers |= {int(number) for number in listed.split()}
    return numbers.union(*map(_below, numbers))


def end(processes: list[psutil.Process]) -> None:
    """Kill processes, and collect those of them that are this process's own children."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=10)


def private_folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """An "image" for the fake stages: numbers in a text file."""
    path = tmp_path / "in.txt"
    path.write_text("1 2 3")
    return path


@pytest.fixture
def config_file(tmp_path: Path) -> Callable[..., Path]:
    """A whole fake profile as a user file: source -> trouble -> sink.

    Keyword arguments are params of `trouble`, except attempts, runtime, source, timeout and
    load_timeout.
    """

    def make(**params: Any) -> Path:
        trouble: dict[str, Any] = {"stage": "fake.trouble"}
        for key in ("attempts", "timeout", "load_timeout"):
            if key in params:
                trouble[key] = params.pop(key)
        runtime = {
            "heartbeat_interval": 0.1,
            "heartbeat_timeout": 20.0,
            "stop_grace": 0.5,
            **params.pop("runtime", {}),
        }
        source = params.pop("source", {})
        trouble["params"] = params
        profile = {
            "profile": "none",
            "nodes": {
                "source": {"stage": "fake.source", "params": source},
                "trouble": trouble,
                "sink": {"stage": "fake.sink"},
            },
            "runtime": runtime,
        }
        path = tmp_path / "fake.yaml"
        path.write_text(yaml.safe_dump(profile))
        return path

    return make


@pytest.fixture(scope="session")
def forked(fake_package: None, own_temporary_folder: None) -> Iterator[Forked | None]:
    """The command line with its imports done, where the system can fork."""
    if not hasattr(os, "fork"):
        yield None
        return
    process = Forked()
    yield process
    process.close()


@pytest.fixture(scope="session")
def kiss3d_in(forked: Forked | None) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Call the real command line in a process of its own, in a folder, which comes first."""

    def call(cwd: Path, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        if forked is not None and not options and forked.can(cli_environment()):
            return forked.run(arguments, cwd, PATIENCE)
        return subprocess.run(
            command(*arguments),
            cwd=cwd,
            env=cli_environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            **options,
        )

    return call


@pytest.fixture
def kiss3d(
    tmp_path: Path, kiss3d_in: Callable[..., subprocess.CompletedProcess[str]]
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The same, in `tmp_path` unless `cwd` is given."""

    def call(
        *arguments: object, cwd: Path = tmp_path, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        return kiss3d_in(cwd, *arguments, **options)

    return call
