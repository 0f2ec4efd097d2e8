"""Small pieces for tests inside one process: stages that only have a contract, runs, artifacts."""

from __future__ import annotations

import errno
import sys
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from orchestrator.pipeline.graph import Node
from orchestrator.pipeline.profile import Runtime
from orchestrator.processes.handle import StageProcess
from orchestrator.processes.hub import ProcessHub
from orchestrator.record.manifest import FileRecord, InputRecord, Manifest, NodeRecord
from orchestrator.record.run_directory import RunDirectory
from orchestrator.running.run_events import RunEvent
from orchestrator.running.session import Session
from orchestrator.system.atomic_files import digest_bytes
from orchestrator.system.gpu import GpuMonitor
from stages.contract import ArtifactSpec, Params, Stage, registry
from stages.process import protocol

PICTURE = b"1 2 3"


class Silent:
    """An observer that shows nothing."""

    def notify(self, event: RunEvent) -> None:
        pass


class SilentHub:
    """Stands for a `ProcessHub` that starts nothing (`asked`) and lets every message go (`sent`).

    full: the disk has no room for what a start has to write.
    """

    def __init__(self) -> None:
        self.sent: list[protocol.Message] = []
        self.asked: list[str] = []
        self.full = False

    def preload(self, modules: Sequence[str]) -> None:
        pass

    def start(
        self, stage: str, needs: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> StageProcess:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device", str(log))
        self.asked.append(stage)
        name = f"fake-{len(self.asked)}"
        return StageProcess(name, stage, "token", log, log, environment, started=0.0)

    def send(self, process: StageProcess, message: protocol.Message) -> None:
        self.sent.append(message)


def make_session(
    node: Node, folder: Path, monitor: GpuMonitor | None = None, hub: SilentHub | None = None
) -> Session:
    """A session whose process was never started. folder: of its log."""
    log, hub = folder / "log", hub or SilentHub()
    process = hub.start(node.config.stage, (), log, {})
    as_hub = cast(ProcessHub, hub)
    return Session(node, 0, as_hub, process, Runtime(), monitor or GpuMonitor(), log, 1)


def make_stage(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    reads: str = "",
    writes: str = "",
    params: type[Params] = Params,
) -> None:
    """Ship a stage that reads and writes text; an input that ends in "?" is optional."""
    module = types.ModuleType(f"made_up_{name}")
    module.Made = type(  # type: ignore[attr-defined]
        "Made",
        (Stage,),
        {
            "name": name,
            "summary": "made up",
            "inputs": tuple(
                ArtifactSpec(word.rstrip("?"), "text", "", optional=word.endswith("?"))
                for word in reads.split()
            ),
            "outputs": tuple(ArtifactSpec(word, "text", "") for word in writes.split()),
            "Params": params,
            "run": lambda self, inputs, context: {},
        },
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(registry.BUILT_IN, name, f"{module.__name__}:Made")


def make_run(path: Path, picture: bytes = PICTURE, seed: int = 42) -> RunDirectory:
    """A run directory on disk that has done nothing yet."""
    record = InputRecord(
        source="in.txt", file="input.txt", size=len(picture), digest=digest_bytes(picture)
    )
    return RunDirectory.create(
        path, Manifest(seed=seed, given={"input_image": record}), {"input_image": picture}
    )


def finish_node(
    run: RunDirectory, node: str, files: Mapping[str, bytes], key: str = "", **fields: Any
) -> None:
    """Record `node` as done: artifact name -> content of its one file, NAME.txt."""
    artifacts = {}
    for name, content in files.items():
        run.inside.make_folder(node)
        run.inside.write(f"{node}/{name}.txt", content)
        artifacts[name] = [
            FileRecord(file=f"{name}.txt", size=len(content), digest=digest_bytes(content))
        ]
    run.manifest.nodes[node] = NodeRecord(state="done", key=key, artifacts=artifacts, **fields)
    run.save()
