"""From words alone to a mesh: the real profiles on tiny weights, one process a node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from devtools.profile_runs import SIZES, STEPS, Finished, orchestrate, run_profile, sets

WORDS = "a red ceramic vase with two handles"
UNREFINED = {"isomer.stage2_steps": 0}
"""The bundle that random weights draw of words is noise, which refinement cannot follow."""
FIVE = ["prompt", "encode", "flux", "reconstruct", "isomer"]


@pytest.fixture(scope="module")
def vase(tiny_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    folder = tmp_path_factory.mktemp("text")
    options = sets("text", SIZES, STEPS, UNREFINED)
    return run_profile(tiny_models, folder, "text", *options, subject=("--text", WORDS))


def test_words_end_in_a_mesh(vase: Finished) -> None:
    assert vase.manifest["state"] == "done"
    assert list(vase.nodes) == FIVE
    assert {node["state"] for node in vase.nodes.values()} == {"done"}
    assert (vase.path / "result" / "mesh.glb").stat().st_size > 1000
    assert vase.path.name.startswith("a_red_ceramic_vase_with_two_handles-")
    assert (vase.path / "prompt" / "prompt.txt").read_text() == WORDS


def test_the_words_are_all_that_is_recorded_as_given(vase: Finished) -> None:
    assert list(vase.manifest["given"]) == ["input_text"]
    record = vase.manifest["given"]["input_text"]
    assert (record["text"], record["source"], record["file"]) == (WORDS, "", "input.txt")
    assert (vase.path / "input.txt").read_text() == WORDS


def test_the_params_are_those_of_the_references_text_mode(vase: Finished) -> None:
    flux = vase.params("flux")
    assert (flux["strength"], flux["controlnet"]) == (1.0, [])
    assert (flux["guidance_scale"], flux["lora_scale"]) == (3.5, 1.0)
    assert flux["lora"] == "kiss3dgen-lora"
    assert vase.params("encode")["redux"] is False
    assert vase.params("isomer")["radius"] == 4.2
    assert vase.params("isomer")["stage1_steps"] == 0
    assert vase.manifest["seed"] == 42


def test_the_page_says_the_words_and_how_to_make_it_again(vase: Finished) -> None:
    page = (vase.path / "result" / "report.html").read_text()
    assert WORDS in page
    assert f"run --text &#39;{WORDS}&#39; --profile text" in page


def test_a_second_run_of_the_same_words_computes_nothing(vase: Finished, tiny_models: Path) -> None:
    folder = vase.path.parents[1]
    options = sets("text", SIZES, STEPS, UNREFINED)
    again = run_profile(tiny_models, folder, "text", *options, subject=("--text", WORDS))
    assert all(node["cached_from"] for node in again.nodes.values())


@pytest.mark.slow
def test_a_list_of_words_is_a_batch_with_names_and_seeds(vase: Finished, tiny_models: Path) -> None:
    folder = vase.path.parents[1]
    (folder / "list.csv").write_text(
        f"name,text,seed\nvase,{WORDS},42\nother,{WORDS},7\nempty,,\n", encoding="utf-8"
    )
    options = ["--profile", "text", "--device", "cpu", *sets("text", SIZES, STEPS, UNREFINED)]
    done = orchestrate(tiny_models, folder, "batch", "list.csv", *options, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [row["name"] for row in told["jobs"]] == ["vase", "other"]
    assert told["skipped"] == [{"path": "line 4", "reason": "the text is empty"}]
    batch = Path(told["batch"])
    first, second = Finished(batch / "vase"), Finished(batch / "other")
    assert (first.manifest["seed"], second.manifest["seed"]) == (42, 7)
    assert first.nodes["isomer"]["cached_from"], "the same words and seed as in the run before"
    assert second.nodes["encode"]["cached_from"], "no seed goes into the embeddings"
    assert not second.nodes["flux"]["cached_from"]
    ours, theirs = (one.digests()["flux/bundle.npy"] for one in (first, second))
    assert ours != theirs
    alone = run_profile(
        tiny_models,
        folder,
        "text",
        "--seed",
        7,
        *sets("text", SIZES, STEPS, UNREFINED),
        subject=("--text", WORDS),
    )
    assert alone.digests()["flux/bundle.npy"] == theirs
