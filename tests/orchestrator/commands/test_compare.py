"""`compare`: runs side by side, in a file that is nobody else's."""

from __future__ import annotations

import pytest

from devtools.page_runs import TRAPS, Page, page_run
from orchestrator.commands import compare as command
from orchestrator.commands.compare import compare
from orchestrator.errors import InputFileError, OutputError, RunRecordError, UsageError
from orchestrator.pipeline.layers import load


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Two runs of the profile sketch, with other settings each."""
    monkeypatch.chdir(tmp_path)
    paths = []
    for steps in (3, 9):
        settings = load("sketch", sets=[f"isomer.stage2_steps={steps}"])
        run = page_run(
            tmp_path / f"steps{steps}",
            profile="sketch",
            settings=settings.profile.model_dump(mode="json"),
            sources=dict(settings.sources),
            seed=steps,
        )
        paths.append(run.path)
    return paths


def test_the_page_shows_both_meshes_and_what_differs(two):
    page = Page(compare(two, None, None).read_bytes())
    assert len(page.all("iframe")) == 2
    assert "isomer.params.stage2_steps" in page.text
    assert "isomer.params.smooth" not in page.text, "the same in both"
    assert "steps3" in page.text
    assert "steps9" in page.text
    assert "Scores" not in page.text
    assert page.addresses == set()


def test_with_a_true_mesh_the_scores_are_those_of_evaluate(two):
    truth = two[0] / "result" / "mesh.glb"
    (two[1] / "result" / "mesh.glb").unlink()
    page = Page(compare(two, truth, None).read_bytes())
    assert "f score" in page.text
    assert "1.00000" in page.text
    assert "scored against mesh.glb" in page.text
    with pytest.raises(InputFileError, match="does not exist"):
        compare(two, two[0] / "none.obj", None)


@pytest.mark.parametrize("trap", TRAPS)
def test_what_others_wrote_is_text(trap, tmp_path):
    name = trap.replace("/", "|")
    paths = []
    for number in (1, 2):
        run = page_run(
            tmp_path / f"{number}{name}", source=f"{name}.png", version=f"{number}{trap}"
        )
        run.manifest.settings = {"nodes": {"a": {"params": {"text": f"{number}{trap}"}}}}
        run.save()
        paths.append(run.path)
    page = Page(compare(paths, None, tmp_path / "c.html").read_bytes())
    assert page.text.count(trap) >= 4
    assert page.text.count(f"1{name}") >= 2
    assert page.all("script") == []
    assert page.addresses == set()


def test_no_file_of_somebody_else_is_written_over(two, tmp_path):
    mine = tmp_path / "mine.html"
    mine.write_text("<html>my own</html>")
    with pytest.raises(OutputError, match="no page of this program"):
        compare(two, None, mine)
    assert mine.read_text() == "<html>my own</html>"
    first, second = compare(two, None, None), compare(two, None, None)
    assert (first.name, second.name) == (
        "compare-steps3-steps9.html",
        "compare-steps3-steps9-2.html",
    )
    assert compare(two, None, first) == first, "a page of ours is made anew"


def test_one_run_or_too_many_are_refused(two, tmp_path):
    with pytest.raises(UsageError, match="1 run cannot be compared"):
        compare(two[:1], None, None)
    with pytest.raises(UsageError, match="13 runs"):
        compare([two[0]] * (command.MOST_RUNS + 1), None, None)
    with pytest.raises(RunRecordError, match="does not exist"):
        compare([*two, tmp_path / "none"], None, None)


def test_a_page_that_cannot_be_written_is_an_output_error(two, tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        compare(two, None, tmp_path / "no folder" / "c.html")
