"""What stages show of their work: in the node's folder and on the page, if anybody wants it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from devtools.fakes.parts import make_run
from orchestrator.record import stage_pictures
from orchestrator.record.belongings import all_files
from orchestrator.record.manifest import NodeRecord
from orchestrator.record.run_directory import RunDirectory
from orchestrator.report.pictures import pictures_of
from stages.process.protocol import Preview


@pytest.fixture
def config(tmp_path: Path) -> Callable[[int], Path]:
    def make(wanted: int) -> Path:
        path = tmp_path / "shapes.yaml"
        node = {"stage": "fake.shapes", "previews": wanted}
        path.write_text(yaml.safe_dump({"profile": "none", "nodes": {"shapes": node}}))
        return path

    return make


def shown(run: Path) -> list[str]:
    return sorted(path.name for path in run.glob("shapes/preview-*"))


def test_as_many_as_are_wanted_are_written_and_the_outputs_are_the_same(
    kiss3d, picture, config, tmp_path
):
    for wanted in (0, 2):
        done = kiss3d(
            "run", picture, "--config", config(wanted), "--output", tmp_path / str(wanted)
        )
        assert done.returncode == 0, done.stderr
    assert shown(tmp_path / "0") == []
    assert shown(tmp_path / "2") == ["preview-step-0.png", "preview-step-1.png"]
    with Image.open(tmp_path / "2" / "shapes" / "preview-step-1.png") as image:
        assert np.unique(np.asarray(image)).tolist() == [40]
    runs = [RunDirectory.open(tmp_path / name).manifest.nodes["shapes"] for name in "02"]
    assert runs[0].artifacts == runs[1].artifacts
    assert runs[0].key == runs[1].key, "what is shown is no part of what is computed"
    pages = [(tmp_path / name / "result" / "report.html").read_text() for name in "02"]
    assert ["shapes on the way" in page for page in pages] == [False, True]


def test_a_batch_shows_none(kiss3d, config, tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "in.txt").write_text("1 2")
    request = ("batch", tmp_path / "pictures", "--glob", "*.txt", "--config", config(2))
    assert kiss3d(*request, "--output", tmp_path / "out").returncode == 0
    assert shown(tmp_path / "out" / "in") == []


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    run = make_run(tmp_path / "run")
    run.inside.make_folder("draw")
    run.manifest.nodes["draw"] = NodeRecord()
    stage_pictures.write(
        run, "draw", Preview(job="job", name="step-7", height=2, width=3, pixels=bytes(range(18)))
    )
    return run


def test_a_picture_is_the_run_s_own_file_until_the_next_attempt(run):
    assert "draw/preview-step-7.png" in all_files(run)
    (run.path / "draw" / "preview-of mine.png").write_bytes(b"mine")
    stage_pictures.clear(run, "draw")
    assert [path.name for path in (run.path / "draw").iterdir()] == ["preview-of mine.png"]


def test_what_lies_in_its_place_is_no_danger_to_the_page(run, tmp_path):
    (tmp_path / "secret.png").write_bytes((run.path / "draw" / "preview-step-7.png").read_bytes())
    (run.path / "draw" / "preview-link.png").symlink_to(tmp_path / "secret.png")
    (run.path / "draw" / "preview-bad.png").write_bytes(b"no picture")
    Image.new("RGB", (1024, 1024)).save(run.path / "draw" / "preview-large.png")
    [found] = pictures_of(run).pictures
    assert [tile.label for tile in found.tiles] == ["step 7"]


def test_a_full_disk_costs_the_picture_alone(run):
    (run.path / "draw" / "preview-step-7.png").unlink()
    (run.path / "draw").rmdir()
    (run.path / "draw").write_text("no folder")
    stage_pictures.write(
        run, "draw", Preview(job="job", name="step-7", height=1, width=1, pixels=b"rgb")
    )
