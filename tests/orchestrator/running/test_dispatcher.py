"""Who gets a process, a card, the word to load and the next job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from devtools.fakes.parts import SilentHub, make_run, make_stage
from orchestrator.pipeline.graph import Graph
from orchestrator.pipeline.profile import Attempt, NodeConfig, Profile, Runtime
from orchestrator.processes.handle import Ended, Spoke
from orchestrator.running.attempts import Attempts
from orchestrator.running.dispatcher import Dispatcher
from orchestrator.running.jobs import Job
from orchestrator.running.run_events import RunEvent
from orchestrator.running.session import Session
from orchestrator.running.session_events import Gone
from orchestrator.running.spread import ALONE, Spread
from orchestrator.running.workload import Workload
from orchestrator.system import clock
from orchestrator.system.gpu import Card, GpuMonitor
from stages.process import protocol

LOAD_SECONDS = 3600.0
"""Of each process: no test waits for it."""


class Monitor(GpuMonitor):
    """A card on which nobody is."""

    def used(self, index: int) -> int:
        return 0

    def process_memory(self, index: int, pids: object) -> int:
        return 0

    def lists(self, index: int, pid: int) -> bool:
        return False


class Drawing:
    """As much of a durable writer as a dispatcher asks for."""

    def draw(self, action: Callable[[], None]) -> None:
        pass


@dataclass
class Bench:
    work: Workload
    dispatcher: Dispatcher
    hub: SilentHub
    events: list[RunEvent] = field(default_factory=list)

    def assign(self) -> None:
        while self.dispatcher.assign():
            pass

    def session(self, node: str) -> Session:
        (found,) = [s for s in self.dispatcher.sessions if s.node.name == node]
        return found

    def hear(self, session: Session, message: protocol.Message) -> None:
        session.on_event(Spoke(session.process, message, b""))

    def boot(self, node: str) -> Session:
        """Say hello for the process of a node, which may be told to load then."""
        session = self.session(node)
        self.hear(
            session,
            protocol.Hello(
                stage=session.process.stage, pid=1, protocol=protocol.VERSION, warm=True
            ),
        )
        self.assign()
        return session

    def ready(self, node: str) -> Session:
        session = self.boot(node)
        self.hear(session, protocol.Ready(timings={"import": 1.0, "load": LOAD_SECONDS - 1.0}))
        self.assign()
        return session

    def finish(self, session: Session) -> str:
        """The job in flight is done, as the loop does it; its name."""
        job = session.job
        self.hear(session, protocol.Done(job=job, outputs={}, timings={}, peaks={}))
        self.dispatcher.job_over(session)
        self.work.job(job).enter(session.node.name, "made")
        for later in self.work.graph.nodes:
            state = self.work.job(job).nodes[later]
            if state.standing == "waiting":
                self.work.job(job).enter(later, "ready")
        self.assign()
        return job

    def end(self, session: Session) -> None:
        session.process.exit_code = 0
        for event in session.on_event(Ended(session.process)):
            if isinstance(event, Gone):
                self.dispatcher.retire(session, event.release)
        self.assign()

    def told(self, kind: type[protocol.Message]) -> list[protocol.Message]:
        return [message for message in self.hub.sent if isinstance(message, kind)]


@pytest.fixture
def make_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Bench]:
    """begin -> end; of each job `begin` is ready."""
    make_stage(monkeypatch, "begin", reads="input_image", writes="a")
    make_stage(monkeypatch, "end", reads="a", writes="b")

    def make(
        jobs: int = 1, cards: int = 0, device: str = "cpu", laid: Spread = ALONE, **runtime: int
    ) -> Bench:
        rungs = [Attempt.model_validate({"device": device, "tries": 1})]
        nodes = {name: NodeConfig(stage=name, attempts=rungs) for name in ("begin", "end")}
        graph = Graph.from_profile(Profile(nodes=nodes))
        names = [f"job{number}" for number in range(jobs)]
        made = [Job(name, make_run(tmp_path / name), graph, graph) for name in names]
        for job in made:
            job.begin()
            job.enter("begin", "ready")
        events: list[RunEvent] = []

        class Watcher:
            def notify(self, event: RunEvent) -> None:
                events.append(event)

        hub = SilentHub()
        leased = [Card(index, str(index)) for index in range(cards)]
        terms = Runtime(**runtime)
        work = Workload(graph, made, terms, leased, Monitor(), Watcher())
        laid = replace(laid, on_cards=max(1, cards))
        dispatcher = Dispatcher(
            work, made, (), laid, Attempts(work, made), Drawing(), hub, tmp_path
        )
        return Bench(work, dispatcher, hub, events)

    return make


def test_one_process_serves_every_job_of_its_node_and_then_ends(make_bench):
    bench = make_bench(jobs=3)
    bench.assign()
    session = bench.ready("begin")
    done = [bench.finish(session) for _ in range(3)]
    assert done == ["job0", "job1", "job2"]
    assert bench.hub.asked.count("begin") == 1
    assert session.state == "stopping"


def test_the_next_node_starts_ahead_and_loads_once_its_inputs_are_being_computed(make_bench):
    bench = make_bench()
    bench.assign()
    assert sorted(bench.hub.asked) == ["begin", "end"]
    later = bench.boot("end")
    assert later.state == "imported", "nothing computes yet"
    bench.ready("begin")
    assert later.state == "loading"


def test_without_prefetch_a_process_starts_for_a_job_that_is_ready(make_bench):
    bench = make_bench(prefetch=0)
    bench.assign()
    assert bench.hub.asked == ["begin"]
    bench.finish(bench.ready("begin"))
    assert bench.hub.asked == ["begin", "end"]


def test_no_more_jobs_compute_than_there_are_slots(make_bench):
    bench = make_bench(jobs=2, laid=Spread(slots=1))
    bench.assign()
    bench.boot("end")
    first = bench.ready("begin")
    bench.hear(bench.session("end"), protocol.Ready(timings={}))
    bench.finish(first)
    running = [session.state for session in bench.dispatcher.sessions].count("running")
    assert running == 1, "the second job's begin has the slot, the first job's end waits"
    assert len(bench.told(protocol.Run)) == 2


def test_a_card_is_leased_to_one_process_and_comes_back_with_its_end(make_bench):
    bench = make_bench(cards=1, device="cuda")
    bench.assign()
    first = bench.ready("begin")
    assert first.card == Card(0, "0")
    bench.finish(first)
    later = bench.boot("end")
    assert (later.state, later.card) == ("imported", None), "it waits for the card"
    assert bench.told(protocol.Prepare), "and reads its weights meanwhile"
    bench.end(first)
    assert (later.state, later.card) == ("loading", Card(0, "0"))


def test_a_gpu_rung_without_a_card_fails_before_any_process_starts(make_bench):
    bench = make_bench(device="cuda")
    bench.assign()
    (job,) = bench.work.jobs
    (row,) = job.run.manifest.nodes["begin"].attempts
    assert (row.outcome, row.device) == ("gpu_unavailable", "cuda")
    assert job.over
    assert bench.hub.asked == []


def test_a_full_disk_fails_the_jobs_that_are_ready_and_leaves_no_session(make_bench):
    bench = make_bench(jobs=2)
    bench.hub.full = True
    bench.assign()
    outcomes = [job.run.manifest.nodes["begin"].attempts[0].outcome for job in bench.work.jobs]
    assert outcomes == ["disk_full", "disk_full"]
    assert bench.dispatcher.sessions == []


def test_a_process_that_broke_the_rules_gets_nothing_more_to_do(make_bench):
    bench = make_bench()
    bench.assign()
    session = bench.session("begin")
    bench.hear(session, protocol.Ready(timings={}))
    bench.assign()
    assert session.doomed
    assert not bench.told(protocol.Load)


def test_a_process_that_was_started_ahead_for_nothing_is_let_go(make_bench):
    bench = make_bench()
    bench.assign()
    later = bench.session("end")
    (job,) = bench.work.jobs
    job.fail("begin", "it broke")
    bench.boot("end")
    assert later.state == "stopping"


def test_a_cpu_node_has_a_process_for_each_job_up_to_its_crew(make_bench):
    bench = make_bench(jobs=5, laid=Spread(slots=3, crews={"begin": 3, "end": 2}))
    bench.assign()
    assert bench.hub.asked.count("begin") == 3
    assert bench.hub.asked.count("end") == 1, "ahead of time"


def on_two_nodes(make_bench, cards: int = 1) -> tuple[Bench, Session]:
    """Two jobs on cards, the first one through `begin`, whose process waits for the second one's
    inputs, which come from elsewhere."""
    bench = make_bench(jobs=2, cards=cards, device="cuda", laid=Spread(on_cards=cards))
    late = bench.work.jobs[1]
    late.enter("begin", "waiting")
    bench.assign()
    first = bench.ready("begin")
    bench.finish(first)
    assert first.state == "idle", "the second job may come any moment"
    return bench, first


def test_a_card_is_not_held_for_long_by_who_only_waits(make_bench, monkeypatch):
    bench, first = on_two_nodes(make_bench)
    later = bench.boot("end")
    assert later.card is None
    moment = bench.dispatcher.next_look()
    assert clock.now() < moment < clock.now() + LOAD_SECONDS
    monkeypatch.setattr(clock, "now", lambda: moment - 0.1)
    bench.assign()
    assert first.state == "idle", "coming back would cost more than it has waited"
    monkeypatch.setattr(clock, "now", lambda: moment)
    bench.assign()
    assert first.state == "stopping"
    bench.end(first)
    assert later.state == "loading"


def test_a_card_that_nobody_else_has_work_for_is_kept(make_bench):
    bench, first = on_two_nodes(make_bench)
    bench.work.jobs[0].fail("end", "it broke")
    assert bench.dispatcher.next_look() == float("inf")
    bench.assign()
    assert first.state == "idle"


def test_a_process_is_not_let_go_while_another_card_computes_its_inputs(make_bench):
    """With one card it has to go, since its inputs need that card."""
    for cards, state in ((1, "stopping"), (2, "idle")):
        bench = make_bench(jobs=2, cards=cards, device="cuda", laid=Spread(on_cards=1))
        second = bench.work.jobs[1]
        second.enter("begin", "waiting")
        bench.assign()
        first = bench.ready("begin")
        bench.finish(first)
        if cards == 1:
            first.stop()
            bench.end(first)
        later = bench.ready("end")
        bench.finish(later)
        assert later.state == state
