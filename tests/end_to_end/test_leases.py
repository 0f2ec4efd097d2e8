"""Leases of none, one and several cards. The cards are invented: the fake stage touches none."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from devtools.fakes.parts import Silent
from devtools.patience import PATIENCE, eventually
from orchestrator.commands import open_run
from orchestrator.commands import run as runs
from orchestrator.commands.subject import subject_of
from orchestrator.pipeline.budget import Budget
from orchestrator.planning import options, request
from orchestrator.running.spread import LEAST_HOST
from orchestrator.system.gpu import Card


@dataclass(frozen=True)
class Entry:
    """One line of the fake stage's diary."""

    pid: int
    card: str
    began: float
    ended: float


def read_diary(path: Path) -> list[Entry]:
    rows = (line.split() for line in path.read_text().splitlines())
    return sorted(
        (Entry(int(pid), card, float(a), float(b)) for pid, card, a, b in rows),
        key=lambda entry: entry.began,
    )


def overlapping(entries: list[Entry]) -> int:
    """The most jobs that computed at one time."""
    return max(
        sum(other.began <= entry.began < other.ended for other in entries) for entry in entries
    )


def run_jobs(
    tmp_path: Path, config: Path, cards: int, jobs: int, host: int = 0
) -> list[runs.RunDirectory]:
    prepared = request.prepare(options.Options(config_file=config))
    invented = tuple(Card(-1, f"card-{index}", f"card {index}") for index in range(cards))
    prepared = replace(prepared, cards=invented, budget=Budget(host=host))
    opened = []
    for index in range(jobs):
        picture = tmp_path / f"in{index}.txt"
        picture.write_text(f"{index} 1")
        opened.append(
            (
                f"j{index}",
                open_run.open_or_create(prepared, subject_of([picture]), tmp_path / f"j{index}"),
            )
        )
    logs = tmp_path / "logs"
    logs.mkdir()
    done = runs.execute(prepared, opened, Silent(), None, logs)
    assert all(job.succeeded for job in done), [job.error for job in done]
    return [run for _, run in opened]


@pytest.fixture
def gpu_config(config_file, tmp_path):
    def make(**more) -> Path:
        return config_file(
            attempts=[{"device": "cuda"}, {"device": "cpu"}],
            seconds=0.4,
            diary=str(tmp_path / "diary"),
            **more,
        )

    return make


def test_without_a_card_the_cpu_rung_serves_all(gpu_config, tmp_path):
    run_jobs(tmp_path, gpu_config(), cards=0, jobs=2)
    assert {entry.card for entry in read_diary(tmp_path / "diary")} == {"-"}


def test_one_card_serves_one_job_at_a_time_in_one_process(gpu_config, tmp_path):
    made = run_jobs(tmp_path, gpu_config(), cards=1, jobs=3)
    diary = read_diary(tmp_path / "diary")
    assert {entry.card for entry in diary} == {"card-0"}
    assert len({entry.pid for entry in diary}) == 1
    assert overlapping(diary) == 1
    rows = [run.manifest.nodes["trouble"].attempts[0] for run in made]
    assert {row.device for row in rows} == {"card 0"}
    assert {row.vram["verdict"] for row in rows} == {"not measurable"}


def test_two_cards_serve_two_jobs_at_once_each_with_its_own(gpu_config, tmp_path):
    run_jobs(tmp_path, gpu_config(company=2), cards=2, jobs=4)
    diary = read_diary(tmp_path / "diary")
    assert {entry.card for entry in diary} == {"card-0", "card-1"}
    assert overlapping(diary) == 2
    by_process = {entry.pid: entry.card for entry in diary}
    assert len(by_process) == 2, "a process keeps its card"
    assert all(by_process[entry.pid] == entry.card for entry in diary)


def test_two_cards_do_not_take_more_of_the_hosts_memory_than_there_is(gpu_config, tmp_path):
    run_jobs(tmp_path, gpu_config(), cards=2, jobs=3, host=LEAST_HOST)
    diary = read_diary(tmp_path / "diary")
    assert len({entry.pid for entry in diary}) == 1
    assert overlapping(diary) == 1


def test_a_card_is_free_again_after_a_crash(gpu_config, tmp_path):
    run_jobs(tmp_path, gpu_config(mode="segfault", flag=str(tmp_path / "flag")), cards=1, jobs=2)
    assert {entry.card for entry in read_diary(tmp_path / "diary")} == {"card-0"}


def test_cpu_nodes_run_beside_a_gpu_node(config_file, tmp_path):
    """While job 0 holds the card, job 1's source computes on the CPU."""
    config = config_file(
        attempts=[{"device": "cuda"}],
        seconds=0.5,
        diary=str(tmp_path / "diary"),
        source={"seconds": 0.5},
        runtime={"cpu_slots": 1},
    )
    made = run_jobs(tmp_path, config, cards=1, jobs=2)
    on_card = read_diary(tmp_path / "diary")
    rows = [run.manifest.nodes for run in made]
    second_source = rows[1]["source"].attempts[0]
    first_card = rows[0]["trouble"].attempts[0]
    assert second_source.started < first_card.started + first_card.seconds
    assert len(on_card) == 2


@pytest.mark.parametrize("cards", [1, 2])
def test_drawing_begins_with_the_first_words_and_not_with_the_last(cards, tmp_path):
    """The last picture's words come when another one's drawing has begun. With one card the
    process that embeds has to give it up for that, though it has more to do."""
    began = str(tmp_path / "began")
    on_card = {"attempts": [{"device": "cuda"}], "timeout": PATIENCE}
    nodes = {
        "source": {"stage": "fake.source"},
        "words": {"stage": "fake.words", "params": {"until": began, "only_for": 3.0}},
        "embed": {"stage": "fake.embed", **on_card},
        "draw": {"stage": "fake.draw", "params": {"began": began}, **on_card},
    }
    nodes["words"]["timeout"] = PATIENCE
    config = tmp_path / "captioned.yaml"
    config.write_text(yaml.safe_dump({"profile": "none", "nodes": nodes}))
    made = run_jobs(tmp_path, config, cards=cards, jobs=4)
    drawn = [(run.path / "draw" / "drawn.txt").read_text() for run in made]
    assert drawn == [f"number {number}" for number in range(4)]


def test_weights_are_read_ahead_while_a_process_waits_for_its_inputs(config_file, tmp_path):
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(bytes(3_000_000))
    read = tmp_path / "read"
    config = config_file(
        attempts=[{"device": "cuda"}], needs=[str(weights)], source={"until": str(read)}
    )

    def watch() -> None:
        """Let the inputs come once the weights are there, and at last in any case."""
        try:
            eventually(lambda: "read 3000000 bytes of weights ahead" in logged(tmp_path / "logs"))
        finally:
            read.touch()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    run_jobs(tmp_path, config, cards=1, jobs=1)
    watcher.join()


def logged(folder: Path) -> str:
    return "".join(log.read_text() for log in folder.glob("trouble-*.log"))
