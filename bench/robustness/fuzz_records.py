"""Damaged records, config files and command lines for `bench/robustness/fuzz.py`, each given to a
command.

A folder holds a run, a batch, a cache index, and files that are nobody's business. Each case
damages one file, or makes a command line, and runs the command in a fork of a process that has
everything imported. Behind it nothing may have changed but where the command may write.
"""

from __future__ import annotations

import functools
import shutil
import sys
from pathlib import Path

import yaml

from bench.robustness.forked import Place, prepare
from bench.robustness.fuzz_cases import Cases
from bench.robustness.fuzz_checks import HANG_SECONDS, MINE, changes, snapshot, watch, wrong_end
from bench.robustness.fuzz_pictures import Seen

PROFILE = {
    "profile": "none",
    "nodes": {
        "source": {"stage": "fake.source"},
        "trouble": {"stage": "fake.trouble", "attempts": [{"device": "cpu", "tries": 2}]},
        "sink": {"stage": "fake.sink"},
        "cast": {"stage": "fake.cast"},
    },
    "runtime": {"heartbeat_interval": 0.5, "stop_grace": 0.5},
}


class Fuzz:
    """Cases in one folder."""

    def __init__(self, base: Path, seed: int) -> None:
        self._place = Place(base)
        self._root, self._pristine = self._place.root, base / "pristine"
        self._cases = Cases(seed, self._pristine, self._root)
        self._make()
        self._before = snapshot(self._root)

    def _make(self) -> None:
        (self._root / "in").mkdir()
        (self._root / "outside" / "run").mkdir(parents=True)
        for name, content in (
            ("in/a.txt", "1 2 3"),
            ("in/b.txt", "4 5"),
            ("outside/kept.txt", "k"),
        ):
            (self._root / name).write_text(content)
        (self._root / "c.yaml").write_text(yaml.safe_dump(PROFILE))
        batch = ("batch", "in", "--glob", "*.txt", "--config", "c.yaml", "-o", "outputs/batch")
        for command in (("run", "in/a.txt", "--config", "c.yaml", "-o", "outputs/run"), batch):
            ended = self._place.start(*command).wait(HANG_SECONDS)
            if ended.code != 0:
                raise RuntimeError(f"the sample could not be made: {ended}")
        shutil.copy(self._root / "outputs/run/run.json", self._root / "outside/run/run.json")
        (self._root / MINE).write_text("mine")
        shutil.copytree(self._root, self._pristine, symlinks=True)

    def look(self, number: int) -> tuple[str, Seen]:
        """Do a case; the row that it belongs to, and what became of it."""
        case = self._cases.case(number)
        if case.file:
            (self._root / case.file).write_bytes(case.content)
        before = snapshot(self._root)
        running = self._place.start(
            *case.command, before=functools.partial(watch, self._place.base)
        )
        ended = running.wait(HANG_SECONDS)
        after = snapshot(self._root)
        why = wrong_end(ended.code, ended.text, ended.cpu, ended.memory)
        why = why or changes(before, after, case.writes)
        if case.command[0] in ("resume", "run", "batch", "stage"):
            _, processes, _ = self._place.await_end(20.0)
            why = why or (f"{processes} processes left" if processes else "")
        if after != self._before:
            self._restore()
        how = "error" if why else "fine" if ended.code == 0 else "refused"
        told = f"{why} | {' '.join(case.command)[:300]}" if why else ""
        return case.kind, Seen(how, told, ended.cpu, ended.memory)

    def _restore(self) -> None:
        """What a case has damaged or made is put right."""
        shutil.rmtree(self._root)
        shutil.copytree(self._pristine, self._root, symlinks=True)
        self._before = snapshot(self._root)


def prepare_worker() -> None:
    """Once a process."""
    sys.dont_write_bytecode = True
    prepare()
    import orchestrator.cli.clean
    import orchestrator.cli.config
    import orchestrator.cli.runs
    import orchestrator.cli.stage
    import orchestrator.cli.stages
    import orchestrator.commands.clean
    import orchestrator.commands.single_stage
    import orchestrator.planning.plan  # noqa: F401
