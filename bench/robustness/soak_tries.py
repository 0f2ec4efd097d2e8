"""What the soak does to a run or batch, and what has to be so behind it.

Each try draws everything from a seed of its own; only the moment of a kill is the machine's too.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from bench.robustness.forked import Ended, Place, Running, prepare
from orchestrator.processes import starter
from orchestrator.system.atomic_files import digest_file

NODES = ("source", "trouble", "sink", "cast")
VICTIMS = ("stage", "template", "guard")
FAULTS = ("SIGKILL", "SIGSEGV", "SIGSTOP")
OPENED = 8
"""Pictures of a batch that is killed while it opens."""
HANG_SECONDS = 300.0
GONE_SECONDS = 20.0
TURNS = 12
"""How often a try begins anew because the command had ended before its fault."""


@dataclass
class Try:
    """One try: its row in the table, the faults that hit, and what was wrong behind them."""

    row: str
    number: int
    faults: int = 0
    wrong: list[str] = field(default_factory=list)
    folders: int = 0
    gone: float = 0.0
    seconds: float = 0.0


def prepare_worker() -> None:
    """Once a process: short patience, so that what stands still costs seconds."""
    prepare()
    starter.GUARD_SILENCE_SECONDS = 6.0
    starter.TEMPLATE_IDLE_SECONDS = 3.0


class Soak:
    """Tries in one folder. pictures, kills: of a large batch."""

    def __init__(self, base: Path, seed: int, pictures: int, kills: int) -> None:
        self._place = Place(base)
        self._seed = seed
        self._pictures = pictures
        self._kills = kills
        # Of an undisturbed run or batch of so many pictures: what it left, and how long it took.
        self._expected: dict[int, dict[str, str]] = {}
        self._usual: dict[int, float] = {}

    def one(self, kind: str, number: int) -> Try:
        """Try `number` of a kind."""
        rng = random.Random(f"{self._seed} {kind} {number}")
        began = time.monotonic()
        tries: dict[str, Callable[[random.Random, int], Try]] = {
            "parent": self._parent,
            "child": self._child,
            "opening": self._opening,
            "batch": self._batch,
        }
        done = tries[kind](rng, number)
        done.seconds = time.monotonic() - began
        return done

    def _parent(self, rng: random.Random, number: int) -> Try:
        """Kill `run`, and perhaps `resume` too, at any moment; then let it finish."""
        cold = rng.random() < 0.3
        made = Try(f"parent killed, {'cold' if cold else 'warm'} start", number)
        start = ["--no-warm"] if cold else []
        self._furnish(rng, 1)
        self._usual_seconds(1)
        wanted = rng.choice((1, 1, 1, 2))
        for turn in range(TURNS):
            command = ["resume", "outputs/it"] if self._begun(1) else self._command(1)
            running = self._place.start(*command, *start)
            self._sleep(running, rng.uniform(0, self._usual[1]) / (1 + turn / 4))
            running.kill()
            if self._ended(made, running.wait(HANG_SECONDS), (0, -signal.SIGKILL)).code == 0:
                self._furnish(rng, 1)
                continue
            made.faults += 1
            if made.faults == wanted:
                break
        self._finish(made, 1)
        return made

    def _child(self, rng: random.Random, number: int) -> Try:
        """Hurt a process of a run at any moment; the run itself has to end well."""
        victim, fault = list(itertools.product(VICTIMS, FAULTS))[number % 9]
        made = Try(f"{victim}: {fault}", number)
        cold = victim != "template" and rng.random() < 0.3
        usual = self._usual_seconds(1)
        for turn in range(TURNS):
            self._furnish(rng, 1)
            running = self._place.start(*self._command(1), *(["--no-warm"] if cold else []))
            self._sleep(running, rng.uniform(0, usual) / (1 + turn))
            hit = False
            while running.poll() is None and not hit:
                hit = self._hurt(rng, running.pid, victim, getattr(signal, fault), cold)
                time.sleep(0.002)
            made.faults += hit
            self._ended(made, running.wait(HANG_SECONDS), (0,))
            if hit:
                break
        self._check(made, 1)
        return made

    @staticmethod
    def _hurt(rng: random.Random, pid: int, victim: str, fault: int, cold: bool) -> bool:
        """Send the signal, if there is such a process now."""
        with contextlib.suppress(psutil.NoSuchProcess, IndexError):
            guard = psutil.Process(pid).children()[0]
            below = sorted(guard.children(), key=lambda child: (child.create_time(), child.pid))
            template, stages = ([], below) if cold else (below[:1], below[1:])
            chosen = {"guard": [guard], "template": template, "stage": stages}[victim]
            process = rng.choice(chosen)
            process.send_signal(fault)
            return True
        return False

    def _opening(self, rng: random.Random, number: int) -> Try:
        """Kill a batch at any change to the disk that it makes while it opens its runs."""
        cut = rng.random() < 0.5
        made = Try(f"batch opening, {'the power cut' if cut else 'killed'}", number)
        self._usual_seconds(OPENED)
        survivors = self._place.base / "survivors"
        for turn in range(TURNS):
            self._furnish(rng, OPENED)
            shutil.rmtree(survivors, ignore_errors=True)
            at = rng.randrange(1, 9 * OPENED) // (1 + turn) + 1
            running = self._place.start(
                *self._command(OPENED), at=at, survivors=str(survivors) if cut else ""
            )
            self._ended(made, running.wait(HANG_SECONDS), (0, -signal.SIGKILL))
            if running.poll() != 0 and not self._worked():
                made.faults += 1
                break
        if cut and survivors.is_dir():
            shutil.rmtree(self._place.root)
            survivors.rename(self._place.root)
        self._finish(made, OPENED)
        return made

    def _batch(self, rng: random.Random, number: int) -> Try:
        """Kill a large batch again and again while it opens and works; then let it finish."""
        made = Try(f"batch of {self._pictures} killed", number)
        usual = self._usual_seconds(self._pictures)
        self._furnish(rng, self._pictures)
        while made.faults < self._kills:
            command = ["resume", "outputs/it"]
            if not self._begun(self._pictures):
                command = self._command(self._pictures)
            before = self._finished()
            running = self._place.start(*command)
            self._sleep(running, rng.uniform(0, usual * 0.3))
            running.kill()
            code = self._ended(made, running.wait(HANG_SECONDS), (0, -signal.SIGKILL)).code
            made.wrong += self._computed_again(before)
            if code != 0:
                made.faults += 1
            else:
                self._check(made, self._pictures)
                self._furnish(rng, self._pictures)
        self._finish(made, self._pictures)
        return made

    def _usual_seconds(self, pictures: int) -> float:
        """What an undisturbed run or batch takes; its results are what others are held to."""
        if pictures not in self._usual:
            content = random.Random(0)
            self._furnish(content, pictures)
            ended = self._place.start(*self._command(pictures)).wait(HANG_SECONDS * 5)
            if ended.code != 0:
                raise RuntimeError(f"an undisturbed command failed: {ended}")
            self._usual[pictures] = ended.seconds
            self._expected[pictures] = self._results()
            self._place.await_end(GONE_SECONDS)
        self._furnish(random.Random(0), pictures)
        return self._usual[pictures]

    def _furnish(self, rng: random.Random, pictures: int) -> None:
        """A fresh folder with pictures and a profile. rng: how its processes are run."""
        self._place.anew()
        folder = self._place.root / "in"
        folder.mkdir()
        for number in range(pictures):
            (folder / f"p{number}.txt").write_text(f"{number} 2 3")
        runtime = {
            "heartbeat_interval": 0.2,
            "heartbeat_timeout": 5.0,
            "stop_grace": 0.5,
            "inline_max_bytes": rng.choice((0, 1 << 20)),
            "prefetch": rng.random() < 0.8,
        }
        params = {"source": {"repeat": 20_000 if pictures == 1 else 20}}
        pauses = {"trouble": {"seconds": 0.15}} if pictures == 1 else {}
        nodes = {
            name: {
                "stage": f"fake.{name}",
                "attempts": [{"tries": 10}],
                "load_timeout": 20.0,  # a stage that stops before its first word is given up then
                "params": {**params.get(name, {}), **pauses.get(name, {})},
            }
            for name in NODES
        }
        profile = {"profile": "none", "nodes": nodes, "runtime": runtime}
        (self._place.root / "c.yaml").write_text(yaml.safe_dump(profile))

    @staticmethod
    def _command(pictures: int) -> list[str]:
        what = ["run", "in/p0.txt"] if pictures == 1 else ["batch", "in", "--glob", "*.txt"]
        return [*what, "--config", "c.yaml", "--output", "outputs/it"]

    @property
    def _out(self) -> Path:
        return self._place.root / "outputs" / "it"

    def _begun(self, pictures: int) -> bool:
        return (self._out / ("run.json" if pictures == 1 else "batch.json")).is_file()

    def _worked(self) -> bool:
        """Whether a node was begun in any run."""
        return any('"started"' in file.read_text() for file in self._out.rglob("events.jsonl"))

    def _runs(self) -> list[Path]:
        return sorted(file.parent for file in self._out.rglob("run.json"))

    def _finished(self) -> dict[str, object]:
        """The attempts of all nodes that are done."""
        found = {}
        for run in self._runs():
            nodes = json.loads((run / "run.json").read_text())["nodes"]
            for name, node in nodes.items():
                if node["state"] == "done":
                    found[f"{run.name}/{name}"] = node["attempts"]
        return found

    def _computed_again(self, before: dict[str, object]) -> list[str]:
        after = self._finished()
        lost = [name for name in before if after.get(name) != before[name]]
        return [f"{name} was done, and is not kept" for name in lost]

    def _results(self) -> dict[str, str]:
        """File -> digest of all artifacts and results of runs that are done; of a page, which tells
        times, only that it is there."""
        found = {}
        for run in self._runs():
            if json.loads((run / "run.json").read_text())["state"] != "done":
                continue
            folders = [run / name for name in (*NODES, "result")]
            for path in itertools.chain.from_iterable(folder.rglob("*") for folder in folders):
                if path.is_file() and path.suffix != ".log":
                    digest = "" if path.suffix == ".html" else digest_file(path)
                    found[str(path.relative_to(self._out))] = digest
        return found

    @staticmethod
    def _sleep(running: Running, seconds: float) -> None:
        """Until the moment has come, or the command has ended."""
        until = time.monotonic() + seconds
        while running.poll() is None and time.monotonic() < until:
            time.sleep(0.001)

    def _ended(self, made: Try, ended: Ended, allowed: tuple[int, ...]) -> Ended:
        """Hold a command's end to what is allowed, and look what it left."""
        if ended.code is None:
            made.wrong.append(f"hang: no end after {HANG_SECONDS:g} s: {ended.text[-300:]}")
        elif ended.code not in allowed:
            made.wrong.append(f"exit code {ended.code}: {ended.text[-600:]}")
        if "Traceback" in ended.text or "unexpected:" in ended.text:
            made.wrong.append(f"traceback: {ended.text[-600:]}")
        gone, processes, folders = self._place.await_end(GONE_SECONDS)
        made.gone = max(made.gone, gone if not folders else 0.0)
        made.folders += folders
        if processes:
            made.wrong.append(f"{processes} processes left")
        return ended

    def _finish(self, made: Try, pictures: int) -> None:
        """Go on as a user would, and look at the results."""
        begun, before = self._begun(pictures), self._finished()
        running = self._place.start("resume", "outputs/it")
        self._ended(made, running.wait(HANG_SECONDS * 5), (0,) if begun else (2,))
        if not begun:
            again = self._place.start(*self._command(pictures))
            self._ended(made, again.wait(HANG_SECONDS * 5), (0,))
        made.wrong += self._computed_again(before)
        self._check(made, pictures)

    def _check(self, made: Try, pictures: int) -> None:
        found, expected = self._results(), self._expected[pictures]
        if found != expected:
            names = [n for n in {*found, *expected} if found.get(n) != expected.get(n)]
            made.wrong.append(f"results differ: {', '.join(sorted(names)[:5])}")
        left = [*self._out.rglob(".lock"), *self._out.rglob(".*.part")]
        if left:
            made.wrong.append(f"left: {', '.join(path.name for path in left[:5])}")
