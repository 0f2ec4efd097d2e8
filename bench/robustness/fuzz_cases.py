"""Damaged records, config files and command lines: the cases of
`bench/robustness/fuzz_records.py`."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.robustness import mutations
from bench.robustness.forked import ROOT

READ_RUN = (
    ("runs", "list"), ("runs", "list", "--json"), ("runs", "show", "outputs/run"), ("clean",),
    ("runs", "show", "outputs/run", "--json"), ("clean", "--older-than", "1"),
    ("plan", "in/a.txt", "--config", "c.yaml", "-o", "outputs/run"),
    ("plan", "in/a.txt", "--config", "c.yaml", "-o", "outputs/run", "--json"),
    ("stage", "sink", "--run", "outputs/run", "--write-job", "job.json", "-o", "outputs/alone"),
)  # fmt: skip
WRITE_RUN = (
    ("clean", "--yes"), ("clean", "--yes", "--json"), ("clean", "--yes", "--intermediate"),
    ("stage", "sink", "--run", "outputs/run", "--inline"), ("clean", "--failed", "--yes"),
)  # fmt: skip
START_RUN = (
    ("resume", "outputs/run"), ("resume", "outputs/run", "--set", "trouble.seconds=0.1"),
    ("run", "in/a.txt", "--config", "c.yaml", "-o", "outputs/run"),
)  # fmt: skip
SAFE_PATHS = (
    "in", "in/a.txt", "in/none.png", "c.yaml", "outputs", "outputs/run", "outputs/batch", "none",
    "in/a.txt/x", "é", "x" * 300, "x/" * 3000, "outside/kept.txt", "\udcff", "-", " ",
    "outputs/new",
)  # fmt: skip
NOWHERE: frozenset[str] = frozenset()
JOB = frozenset({"job.json"})
OUTPUTS = frozenset({"outputs"})
ASKED_FOR = OUTPUTS | {path.split("/")[0] for path in SAFE_PATHS} - {"in", "c.yaml", "outside"}
"""What a command line may have named as a place to write to."""
LEFT_OUT = {"doctor", "models", "evaluate"}
"""Commands that look at the machine, load weights or ask the hub."""


@dataclass(frozen=True)
class Case:
    """kind: the table's row; file: what is damaged, and its content; writes: where it may write."""

    kind: str
    command: tuple[str, ...]
    file: str = ""
    content: bytes = b""
    writes: frozenset[str] = NOWHERE


class Cases:
    """Cases by number. pristine: a folder with whole records; root: its copy that commands see."""

    def __init__(self, seed: int, pristine: Path, root: Path) -> None:
        self._seed = seed
        self._pristine = pristine
        self._root = root

    def case(self, number: int) -> Case:
        """Case `number`, drawn from the seed."""
        rng = random.Random(f"{self._seed} record {number}")
        makers: tuple[tuple[int, Callable[[random.Random], Case]], ...] = (
            (40, self._run_record),
            (12, self._batch_record),
            (3, self._events),
            (10, self._cache_entry),
            (15, self._config_file),
            (10, self._set),
            (10, self._command_line),
        )
        (chosen,) = rng.choices([maker for _, maker in makers], [weight for weight, _ in makers])
        return chosen(rng)

    def _damaged(self, rng: random.Random, file: Path) -> bytes:
        """A record with its document changed, or its bytes."""
        raw = file.read_bytes()
        if rng.random() < 0.7:
            changed = mutations.document(rng, json.loads(raw))
            raw = json.dumps(changed).encode(errors="surrogatepass")
            if rng.random() < 0.8:
                return self._filled(raw)
        return self._filled(mutations.content(rng, raw))

    def _filled(self, raw: bytes) -> bytes:
        return raw.replace(mutations.OUTSIDE.encode(), bytes(self._root / "outside/kept.txt"))

    def _run_record(self, rng: random.Random) -> Case:
        content = self._damaged(rng, self._pristine / "outputs/run/run.json")
        kinds = rng.choices((READ_RUN, WRITE_RUN, START_RUN), (80, 17, 3))[0]
        writes = JOB if kinds == READ_RUN else OUTPUTS
        return Case("run.json", rng.choice(kinds), "outputs/run/run.json", content, writes)

    def _batch_record(self, rng: random.Random) -> Case:
        content = self._damaged(rng, self._pristine / "outputs/batch/batch.json")
        command: tuple[str, ...] = ("clean", "--yes")
        if rng.random() < 0.25:
            command = ("resume", "outputs/batch")
        elif rng.random() < 0.3:
            again = ("--glob", "*.txt", "--config", "c.yaml", "--resume", "-o", "outputs/batch")
            command = ("batch", "in", *again)
        return Case("batch.json", command, "outputs/batch/batch.json", content, OUTPUTS)

    def _events(self, rng: random.Random) -> Case:
        file = "outputs/run/events.jsonl"
        content = mutations.content(rng, (self._pristine / file).read_bytes())
        return Case("events.jsonl", rng.choice(READ_RUN), file, content, JOB)

    def _cache_entry(self, rng: random.Random) -> Case:
        entries = sorted((self._pristine / "outputs/.cache").iterdir())
        entry = rng.choice(entries)
        content, file = self._damaged(rng, entry), f"outputs/.cache/{entry.name}"
        command = rng.choice((
            ("plan", "in/a.txt", "--config", "c.yaml"), ("clean", "outputs/batch"),
            ("runs", "list"), ("plan", "in/b.txt", "--config", "c.yaml", "--json"),
        ))  # fmt: skip
        if rng.random() < 0.15:
            return Case("cache entry", ("clean", "--yes", "outputs"), file, content, OUTPUTS)
        if rng.random() < 0.03:
            command = ("run", "in/a.txt", "--config", "c.yaml", "-o", "outputs/new")
        writes = OUTPUTS if command[0] == "run" else NOWHERE
        return Case("cache entry", command, file, content, writes)

    def _config_file(self, rng: random.Random) -> Case:
        names = [*(ROOT / "configs").glob("*.yaml"), self._pristine / "c.yaml"]
        source = rng.choice(sorted(names)).read_text()
        if rng.random() < 0.5:
            changed = mutations.document(rng, yaml.safe_load(source))
            try:
                content = yaml.safe_dump(changed, allow_unicode=True).encode(errors="surrogatepass")
            except yaml.YAMLError:
                content = repr(changed).encode(errors="surrogatepass")
        else:
            content = mutations.text(rng, source).encode(errors="surrogatepass")
            if rng.random() < 0.3:
                content = mutations.content(rng, content)
        command = rng.choice((
            ("config", "show", "--config", "c.yaml"), ("plan", "in/a.txt", "--config", "c.yaml"),
            ("config", "show", "--json", "--set-only", "--config", "c.yaml"),
            ("plan", "in/a.txt", "--json", "--fast", "--config", "c.yaml"),
        ))  # fmt: skip
        return Case("config file", command, "c.yaml", self._filled(content))

    def _set(self, rng: random.Random) -> Case:
        profile = rng.choice(
            [*sorted((ROOT / "configs").glob("*12gb.yaml")), ROOT / "configs/sketch.yaml"]
        )
        nodes = yaml.safe_load(profile.read_text())["nodes"]
        words: list[str] = []
        for _ in range(rng.choice((1, 1, 2, 3))):
            node = rng.choice([*nodes, "runtime", "seed", self._word(rng)])
            inner = [
                *nodes.get(node, {}).get("params", {}),
                "attempts",
                "timeout",
                "size",
                "cpu_slots",
            ]
            path = (
                ".".join((node, rng.choice([*inner, self._word(rng)]))) if node != "seed" else node
            )
            value = rng.choice(
                (self._word(rng), json.dumps(mutations.value(rng)), str(rng.random()))
            )
            words += ["--set", argument(f"{path}{rng.choice(('=', '=', '=', '', '=='))}{value}")]
        command = rng.choice(
            (("config", "show"), ("plan", "in/a.txt"), ("config", "show", "--json"))
        )
        return Case("--set", (*command, "--profile", profile.stem, *words))

    def _word(self, rng: random.Random) -> str:
        return rng.choice((*mutations.NASTY_TEXTS, *map(str, mutations.NASTY_NUMBERS)))

    def _command_line(self, rng: random.Random) -> Case:
        words: list[str] = []
        found: Any = command_tree()
        while hasattr(found, "list_commands"):
            names = [n for n in found.list_commands(None) if n not in LEFT_OUT]
            if rng.random() < 0.05:
                words.append(argument(self._word(rng)))
                break
            words.append(rng.choice(names))
            found = found.get_command(None, words[-1])
        for param in getattr(found, "params", []):
            words += self._given(rng, param)
        if words[0] in ("run", "batch", "resume") and rng.random() < 0.8:
            words[0] = "plan"  # the others start processes, which takes a second
        if words[0] in ("run", "batch"):
            words += ["--config", "c.yaml"]
        if rng.random() < 0.2:
            words.insert(rng.randrange(len(words) + 1), argument(self._word(rng)))
        return Case("command line", tuple(words), writes=ASKED_FOR)

    def _given(self, rng: random.Random, param: Any) -> list[str]:
        """Words for one parameter of a command, or none."""
        likely = 0.8 if param.param_type_name == "argument" else 0.25
        if rng.random() > likely:
            return []
        if getattr(param, "is_flag", False):
            return [rng.choice((*param.opts, *param.secondary_opts))]
        paths = "path" in type(param.type).__name__.lower()
        value = rng.choice(SAFE_PATHS) if paths else argument(self._word(rng))
        if param.name in ("sets", "inputs"):
            value = argument(f"source.repeat={self._word(rng)}")
        return [value] if param.param_type_name == "argument" else [rng.choice(param.opts), value]


@functools.cache
def command_tree() -> Any:
    from orchestrator.cli.commands import cli

    return cli


def argument(text: str) -> str:
    """A text as a command line can hold it."""
    return text.replace("\0", "").encode(errors="ignore").decode()
