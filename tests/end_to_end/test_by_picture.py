"""A batch without models: each picture goes through to its end, a few beside each other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

PICTURES = 6
AT_ONCE = 2


@dataclass(frozen=True)
class Went:
    """When a picture began its first stage and ended its last, and what became of it."""

    began: float
    ended: float
    state: str


@pytest.fixture
def batch(kiss3d, config_file, tmp_path):
    """Run a batch of fake stages, two pictures at a time; exit code and pictures by name."""

    def run(*options: object, **params: object) -> tuple[int, dict[str, Went]]:
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        for number in range(PICTURES):
            (folder / f"p{number}.txt").write_text(f"{number} 1")
        config = config_file(runtime={"cpu_slots": AT_ONCE}, **params)
        command = ["batch", folder, "--glob", "*.txt", "--config", config]
        done = kiss3d(*command, "--output", tmp_path / "out", *options)
        return done.returncode, went(tmp_path / "out")

    return run


def went(out: Path) -> dict[str, Went]:
    found = {}
    for file in sorted(out.glob("p*/run.json")):
        record = json.loads(file.read_text())
        rows = [row for node in record["nodes"].values() for row in node["attempts"]]
        began = min((row["started"] for row in rows), default=0.0)
        ended = max((row["started"] + row["seconds"] for row in rows), default=0.0)
        found[file.parent.name] = Went(began, ended, record["state"])
    return found


def under_way(pictures: dict[str, Went]) -> int:
    """The most pictures that were between their beginning and their end at one time."""
    return max(
        sum(other.began <= one.began < other.ended for other in pictures.values())
        for one in pictures.values()
    )


def test_each_picture_is_through_before_more_begin(batch, tmp_path):
    code, pictures = batch(seconds=0.3)
    assert code == 0
    assert len(pictures) == PICTURES
    assert under_way(pictures) == AT_ONCE, "no more, and no fewer"
    ended = sorted(one.ended for one in pictures.values())
    began = sorted(one.began for one in pictures.values())
    # By stage the last picture's first stage would be over before the first one's end.
    assert all(end <= start for end, start in zip(ended, began[AT_ONCE:], strict=False))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["computed"] == PICTURES
    assert summary["pictures_a_minute"] > 0.0
    assert summary["cards_busy"] is None, "no card did anything"


def test_a_picture_that_fails_costs_the_others_nothing(batch):
    code, pictures = batch(mode="raise", only_for=0.0)
    assert code == 1
    states = [one.state for one in pictures.values()]
    assert states == ["failed", *["done"] * (PICTURES - 1)]
    assert under_way(pictures) <= AT_ONCE


def test_fail_fast_begins_no_more(batch):
    code, pictures = batch("--fail-fast", mode="raise", only_for=0.0)
    assert code == 1
    states = [one.state for one in pictures.values()]
    assert states[0] == "failed"
    assert states.count("interrupted") >= PICTURES - 2 * AT_ONCE


def test_a_resumed_batch_computes_what_is_missing(batch, kiss3d, tmp_path):
    counted = tmp_path / "counted"
    batch(
        mode="raise", only_for=3.0, flag=str(tmp_path / "flag"), source={"count_file": str(counted)}
    )
    done = kiss3d("resume", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert {one.state for one in went(tmp_path / "out").values()} == {"done"}
    assert len(counted.read_text().splitlines()) == PICTURES, "no picture's source runs twice"
