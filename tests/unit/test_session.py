"""What is told of a process that failed."""

from __future__ import annotations

import pytest
from fakes.parts import make_stage

from orchestrator import protocol
from orchestrator.graph import Graph
from orchestrator.happenings import Gone, JobFailed, StageFailure
from orchestrator.leases import Card
from orchestrator.process import Ended, Spoke, StageProcess
from orchestrator.profile import NodeConfig, Profile, Runtime
from orchestrator.session import Session


class Hub:
    """Starts nothing, and lets every message go."""

    def start(self, stage, needs, log, environment) -> StageProcess:
        return StageProcess("fake-1", stage, "token", log, log, {}, warm=False, started=0.0)

    def send(self, process: StageProcess, message: protocol.Message) -> None:
        pass


class Monitor:
    """A card that held 100 bytes before, and on which nobody else is."""

    def used(self, index: int) -> int:
        return 100

    def process_memory(self, index: int, pids: list[int]) -> int:
        return 30

    def lists(self, index: int, pid: int) -> bool:
        return False


@pytest.fixture
def session(tmp_path, monkeypatch) -> Session:
    make_stage(monkeypatch, "lonely", reads="input_image", writes="a")
    graph = Graph.from_profile(Profile(nodes={"lonely": NodeConfig(stage="lonely")}))
    node = graph.nodes["lonely"]
    return Session(node, 0, Hub(), Runtime(), Monitor(), tmp_path / "log", 42, 1)


def says(session: Session, message: protocol.Message) -> list:
    return session.on_event(Spoke(session.process, message, b""))


def test_a_process_that_could_not_be_started_says_why(session):
    session.process.unstarted = "cannot start a process: no more of them"
    failed, gone = session.on_event(Ended(session.process))
    assert failed == JobFailed("", StageFailure("internal", session.process.unstarted))
    assert isinstance(gone, Gone)


@pytest.mark.parametrize("job", ["", "job"], ids=["load", "job"])
def test_the_peak_of_a_failure_is_recorded_with_the_allocators_own(session, job, tmp_path):
    """It is that of an out-of-memory that a person wants to know."""
    says(session, protocol.Hello("lonely", 7, protocol.VERSION, False))
    session.load(Card(0, "GPU-0"))
    if job:
        says(session, protocol.Ready({}))
        session.run(job, {}, tmp_path, tmp_path)
    peaks = {"rss": 1, "reserved": 20, "vram": 70}
    says(session, protocol.Failed(job, "out_of_memory", "too much", "", "", False, peaks))
    session.process.exit_code = 0
    *_, gone = session.on_event(Ended(session.process))
    assert gone.release.peak == 30 + 70 - 20
