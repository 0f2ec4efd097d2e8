"""What is told of a process that failed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devtools.fakes.parts import SilentHub, make_session, make_stage
from orchestrator.pipeline.graph import Graph
from orchestrator.pipeline.profile import NodeConfig, Profile
from orchestrator.processes.handle import Ended, Spoke, SpokeGarbage, StageProcess
from orchestrator.running.session import Session
from orchestrator.running.session_events import (
    Gone,
    JobDone,
    JobFailed,
    Previewed,
    StageFailure,
)
from orchestrator.system.gpu import Card
from stages.process import protocol


class Monitor:
    """A card that held 100 bytes before, and on which nobody else is."""

    def used(self, index: int) -> int:
        return 100

    def process_memory(self, index: int, pids: list[int]) -> int:
        return 30

    def lists(self, index: int, pid: int) -> bool:
        return False


@pytest.fixture
def another(tmp_path, monkeypatch) -> Callable[[], Session]:
    make_stage(monkeypatch, "lonely", reads="input_image", writes="a")
    graph = Graph.from_profile(Profile(nodes={"lonely": NodeConfig(stage="lonely")}))
    node = graph.nodes["lonely"]
    return lambda: make_session(node, tmp_path, Monitor(), SilentHub())


@pytest.fixture
def session(another) -> Session:
    return another()


def says(session: Session, message: protocol.Message) -> list:
    return session.on_event(Spoke(session.process, message, b""))


HELLO = protocol.Hello(stage="lonely", pid=7, protocol=protocol.VERSION, warm=False)
READY = protocol.Ready(timings={"load": 1.0})
BEAT = protocol.Heartbeat(rss=5, vram=-1)
JOBS = ("job", "", "another")
"""The one that is given out, none, and one that was not."""
MESSAGES: list[protocol.Message] = [
    HELLO,
    protocol.Hello(stage="another", pid=7, protocol=protocol.VERSION, warm=False),
    protocol.Hello(stage="lonely", pid=7, protocol=protocol.VERSION + 1, warm=False),
    READY,
    BEAT,
    *(protocol.Progress(job=job, step=1, total=2) for job in JOBS),
    *(protocol.Preview(job=job, name="half", height=1, width=1, pixels=b"rgb") for job in JOBS),
    *(protocol.Done(job=job, outputs={}, timings={}, peaks={}) for job in JOBS),
    *(protocol.Failed(job=job, kind=kind, message="", hint="", traceback="", fatal=fatal)
      for job in JOBS for kind in ("internal", "odd") for fatal in (False, True)),
    protocol.Prepare(params={}, limit=1),
    protocol.Load(device="cpu", gpu="", dtype="float32", params={}, threads=1),
    protocol.Run(job="job", inputs={}, folder="", scratch="", seed=1),
    protocol.Exit(),
]  # fmt: skip
ALLOWED = {
    "starting": {"Hello": "imported"},
    "imported": {"Heartbeat": "imported"},
    "loading": {"Heartbeat": "loading", "Ready": "idle", "Failed": "stopping"},
    "idle": {"Heartbeat": "idle"},
    "running": {
        "Heartbeat": "running", "Progress": "running", "Preview": "running",
        "Done": "idle", "Failed": "idle",
    },
}  # fmt: skip


def lead_to(session: Session, state: str, folder: Path) -> Session:
    """By the shortest way."""
    if state != "starting":
        says(session, HELLO)
    if state in ("loading", "idle", "running"):
        session.load(None)
    if state in ("idle", "running"):
        says(session, READY)
    if state == "running":
        session.run("job", {}, folder, folder, 42, previews=2)
    assert session.state == state
    return session


def fits(message: protocol.Message, job: str) -> bool:
    """Whether it is right in itself: of this stage, this protocol, this job."""
    if isinstance(message, protocol.Hello):
        return message == HELLO
    if isinstance(message, protocol.Progress | protocol.Preview | protocol.Done):
        return message.job == job
    return not isinstance(message, protocol.Failed) or (message.job, message.kind) == (
        job,
        "internal",
    )


def test_pictures_are_taken_as_many_as_were_asked_for(session, tmp_path, monkeypatch):
    ended = killed(monkeypatch)
    lead_to(session, "running", tmp_path)
    shown = protocol.Preview(job="job", name="step-1", height=1, width=2, pixels=b"rgbRGB")
    assert says(session, shown) == says(session, shown) == [Previewed(shown)]
    assert says(session, shown) == []
    assert ended == [session.process]
    assert "preview that nobody asked for while running" in session.fault


@pytest.mark.parametrize(
    ("picture", "why"),
    [
        (("../x", 1, 1, b"rgb"), "a name that no file may have"),
        (("", 1, 1, b"rgb"), "a name that no file may have"),
        (("x" * 41, 1, 1, b"rgb"), "a name that no file may have"),
        (("x", 1, 1, b"rg"), "another size than it says"),
        (("x", 0, 1, b""), "another size than it says"),
        (("x", -1, -1, b"rgb"), "another size than it says"),
        (("x", 1 << 40, 1 << 40, b"rgb"), "another size than it says"),
    ],
)
def test_what_is_no_picture_ends_the_process(session, tmp_path, monkeypatch, picture, why):
    ended = killed(monkeypatch)
    lead_to(session, "running", tmp_path)
    name, height, width, pixels = picture
    shown = protocol.Preview(job="job", name=name, height=height, width=width, pixels=pixels)
    assert says(session, shown) == []
    assert ended == [session.process]
    assert why in session.fault


def killed(monkeypatch: pytest.MonkeyPatch) -> list[StageProcess]:
    ended: list[StageProcess] = []

    def kill(process: StageProcess) -> None:
        ended.append(process)

    monkeypatch.setattr(StageProcess, "kill", kill)
    return ended


@pytest.mark.parametrize("state", ALLOWED)
@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: str(m)[:60])
def test_every_message_in_every_state_is_expected_or_the_end_of_that_process(
    session, state, message, tmp_path, monkeypatch
):
    ended = killed(monkeypatch)
    job = lead_to(session, state, tmp_path).job
    happenings = says(session, message)
    following = ALLOWED[state].get(type(message).__name__)
    if following is None or not fits(message, job):
        assert happenings == []
        assert session.doomed
        assert ended == [session.process]
        assert type(message).__name__.lower() in session.fault
        assert state in session.fault
    else:
        assert not session.doomed
        assert ended == []
        fatal = isinstance(message, protocol.Failed) and message.fatal
        assert session.state == ("stopping" if fatal else following)


@pytest.mark.parametrize("state", ALLOWED)
def test_what_is_no_message_is_the_end_of_its_process_in_every_state(
    session, state, tmp_path, monkeypatch
):
    ended = killed(monkeypatch)
    lead_to(session, state, tmp_path)
    session.on_event(SpokeGarbage(session.process, "garbage"))
    assert session.doomed
    assert ended == [session.process]


@pytest.mark.parametrize("state", ALLOWED)
def test_a_fault_costs_what_was_asked_of_the_process_one_failure(
    session, state, tmp_path, monkeypatch
):
    killed(monkeypatch)
    lead_to(session, state, tmp_path)
    says(session, protocol.Exit())
    says(session, HELLO)  # what it says after its fault is not even looked at
    session.process.exit_code = -9
    failed, gone = session.on_event(Ended(session.process))
    job = "job" if state == "running" else ""
    assert failed == JobFailed(job, StageFailure("internal", session.fault, failed.failure.hint))
    assert f"sent a exit that is not expected while {state}" in session.fault
    assert isinstance(gone, Gone)


def test_a_fault_after_the_last_word_costs_no_job(session, tmp_path, monkeypatch):
    killed(monkeypatch)
    lead_to(session, "running", tmp_path)
    done = protocol.Done(job="job", outputs={}, timings={}, peaks={})
    assert says(session, done) == [JobDone(done, b"")]
    assert says(session, done) == []
    session.process.exit_code = -9
    (gone,) = session.on_event(Ended(session.process))
    assert isinstance(gone, Gone)
    assert "sent a done" in session.fault, "and it is told all the same"


ACTIONS = st.sampled_from([*MESSAGES, "garbage", "load", "run", "stop", "terminate"])


@given(actions=st.lists(ACTIONS, max_size=12), right=st.sampled_from(list(ALLOWED)))
@settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_a_process_says_each_job_gets_one_answer_and_its_end_is_awaited(
    another, actions, right, tmp_path
):
    """No sequence makes a session forget its job, or wait for ever."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        ended = killed(monkeypatch)
        session = lead_to(another(), right, tmp_path)
        given_out, happenings = int(right == "running"), []
        for action in actions:
            if isinstance(action, protocol.Message):
                happenings += says(session, action)
            elif action == "garbage":
                session.on_event(SpokeGarbage(session.process, "garbage"))
            elif action == "load" and session.state == "imported" and not session.doomed:
                session.load(None)
            elif action == "run" and session.state == "idle" and not session.doomed:
                session.run("job", {}, tmp_path, tmp_path, 42)
                given_out += 1
            elif action == "stop" and session.state != "running":
                session.stop()
            elif action == "terminate":
                session.terminate()
            on_its_way_out = session.doomed and session.process in ended
            assert on_its_way_out or session.next_deadline() < float("inf")
        session.process.exit_code = -9
        happenings += session.on_event(Ended(session.process))
    assert session.state == "gone"
    assert isinstance(happenings[-1], Gone)
    failed = [happening.job for happening in happenings if isinstance(happening, JobFailed)]
    done = [happening for happening in happenings if isinstance(happening, JobDone)]
    assert len(done) + failed.count("job") == given_out
    assert failed.count("") <= 1


def test_a_process_that_could_not_be_started_says_why(session):
    session.process.unstarted = "cannot start a process: no more of them"
    failed, gone = session.on_event(Ended(session.process))
    assert failed == JobFailed("", StageFailure("internal", session.process.unstarted))
    assert isinstance(gone, Gone)


@pytest.mark.parametrize("job", ["", "job"], ids=["load", "job"])
def test_the_peak_of_a_failure_is_recorded_with_the_allocators_own(session, job, tmp_path):
    """It is that of an out-of-memory that a person wants to know."""
    says(session, protocol.Hello(stage="lonely", pid=7, protocol=protocol.VERSION, warm=False))
    session.load(Card(0, "GPU-0"))
    if job:
        says(session, protocol.Ready(timings={}))
        session.run(job, {}, tmp_path, tmp_path, 42)
    peaks = {"rss": 1, "reserved": 20, "vram": 70}
    says(
        session,
        protocol.Failed(
            job=job,
            kind="out_of_memory",
            message="too much",
            hint="",
            traceback="",
            fatal=False,
            peaks=peaks,
        ),
    )
    session.process.exit_code = 0
    *_, gone = session.on_event(Ended(session.process))
    assert gone.release.peak == 30 + 70 - 20


def test_a_process_that_is_being_ended_is_asked_once(session, monkeypatch):
    """A stage's own handler of SIGTERM would be interrupted by the next one."""
    asked: list[StageProcess] = []

    def note(process: StageProcess) -> None:
        asked.append(process)

    monkeypatch.setattr(StageProcess, "terminate", note)
    says(session, protocol.Hello(stage="lonely", pid=7, protocol=protocol.VERSION, warm=False))
    for _ in range(5):
        session.terminate()
        session.tick()
    assert asked == [session.process]
