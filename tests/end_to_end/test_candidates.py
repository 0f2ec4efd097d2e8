"""`run --candidates N`: several seeds, a score of each, and the best one's result on top."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from devtools.pictures import coverage, grid

pytestmark = pytest.mark.slow

QUICK = {
    "profile": "sketch",
    "nodes": {
        "seeded": {"stage": "fake.seeded"},
        "multiview": {"reads": {"image": "recoloured"}, "params": {"grid": 64}},
        "reconstruct": {"params": {"resolution": 32}},
        "isomer": {"params": {"stage2_steps": 0, "texture": "none"}},
    },
}
"""sketch, with a stage that gives other colours than the picture's, but for every third seed."""


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    path = tmp_path / "quick.yaml"
    path.write_text(yaml.safe_dump(QUICK))
    return path


@pytest.fixture
def egg(tmp_path: Path) -> Path:
    x, y = grid(128)
    share = coverage(0.6 - np.hypot(1.4 * x, y), 64)[..., None]
    color = np.broadcast_to([150.0, 90.0, 60.0], (128, 128, 3))
    pixels = np.concatenate([color, 255.0 * share], axis=2)
    path = tmp_path / "egg.png"
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def document(path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads(path.read_text())
    return found


def starts(run: Path, node: str) -> int:
    """How often a node was computed in a run."""
    return len(json.loads((run / "run.json").read_text())["nodes"][node]["attempts"])


def test_the_best_of_three_seeds_is_on_top_and_what_no_seed_changes_is_computed_once(
    kiss3d, quick, egg, tmp_path
):
    out = tmp_path / "out"
    words = ("run", egg, "--config", quick, "--seed", 7, "--candidates", 3, "--output", out)
    done = kiss3d(*words, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["best"] == "seed-9"
    assert [row["seed"] for row in told["candidates"]] == [7, 8, 9]
    scores = {row["name"]: row["scores"] for row in told["candidates"]}
    assert scores["seed-9"]["score"] > max(scores[f"seed-{n}"]["score"] for n in (7, 8)) + 0.1
    assert scores["seed-9"]["colours"] > 0.85
    assert min(one["outlines"] for one in scores.values()) > 0.85
    assert document(out / "candidates.json")["best"] == "seed-9"
    best = (out / "seed-9" / "result" / "mesh.glb").read_bytes()
    assert (out / "result" / "mesh.glb").read_bytes() == best
    assert told["mesh"] == str(out / "result" / "mesh.glb")
    page = (out / "index.html").read_text()
    assert "seed 9: agreement" in page
    assert "the best" in page
    assert [starts(out / f"seed-{n}", "preprocess") for n in (7, 8, 9)] == [1, 0, 0]
    assert [starts(out / f"seed-{n}", "seeded") for n in (7, 8, 9)] == [1, 1, 1]

    # Again: nothing is computed, and nothing is scored.
    before = (out / "seed-9" / "events.jsonl").read_text().count('"scored"')
    again = kiss3d("resume", out)
    assert again.returncode == 0, again.stderr
    assert "best: seed 9" in again.stderr
    assert again.stdout.strip() == str(out / "result" / "mesh.glb")
    assert (out / "seed-9" / "events.jsonl").read_text().count('"scored"') == before == 1
    assert starts(out / "seed-8", "isomer") == 1

    gone = kiss3d("clean", "--yes", tmp_path)
    assert gone.returncode == 0, gone.stderr
    assert not out.exists()


def test_what_is_not_to_be_kept_goes_behind_the_scores(kiss3d, quick, egg, tmp_path):
    out = tmp_path / "out"
    words = ("run", egg, "--config", quick, "--candidates", 2, "--keep", "mesh", "--output", out)
    done = kiss3d(*words)
    assert done.returncode == 0, done.stderr
    assert "best: seed 42" in done.stderr
    assert done.stdout.strip() == str(out / "result" / "mesh.glb")
    for seed in (42, 43):
        run = out / f"seed-{seed}"
        assert not (run / "isomer").exists()
        assert (run / "result" / "mesh.glb").is_file()
        assert not (run / "result" / "mesh.obj").exists()
    again = kiss3d("resume", out)
    assert again.returncode == 0, again.stderr
    assert "best: seed 42" in again.stderr


def test_a_profile_that_draws_nothing_from_the_seed_is_refused(kiss3d, egg, tmp_path):
    out = tmp_path / "out"
    done = kiss3d("run", egg, "--profile", "sketch", "--candidates", 2, "--output", out)
    assert done.returncode == 2
    assert "the mesh does not depend on the seed in profile sketch" in done.stderr
    assert not out.exists()


def test_a_part_of_a_run_has_no_candidates(kiss3d, quick, egg, tmp_path):
    words = ("run", egg, "--config", quick, "--candidates", 2, "--until", "multiview")
    done = kiss3d(*words, "--output", tmp_path / "out")
    assert done.returncode == 2
    assert "whole runs" in done.stderr


def test_a_picture_that_cannot_be_used_fails_once(kiss3d, quick, tmp_path):
    blank = tmp_path / "blank.png"
    Image.new("RGBA", (64, 64), (0, 0, 0, 0)).save(blank)
    out = tmp_path / "out"
    done = kiss3d("run", blank, "--config", quick, "--candidates", 3, "--output", out)
    assert done.returncode == 2
    assert done.stderr.count("fully transparent") == 1 or "preprocess failed" in done.stderr
    assert not (out / "seed-43").exists()


def test_a_directory_of_candidates_is_not_begun_anew(kiss3d, quick, egg, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "batch.json").write_text("{}")
    done = kiss3d("run", egg, "--config", quick, "--candidates", 2, "--output", out)
    assert done.returncode == 2
    assert "resume" in done.stderr


def test_of_what_is_no_picture_nothing_stays(kiss3d, quick, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    done = kiss3d("run", broken, "--config", quick, "--candidates", 3)
    assert done.returncode == 2, done.stderr
    assert not list((tmp_path / "outputs").glob("broken*"))
