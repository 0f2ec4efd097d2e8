"""A run whose weights are missing says so before any stage starts, and how to get them."""

from __future__ import annotations

import json

import pytest

from devtools.fakes.tools import leftovers
from devtools.given_meshes import box_glb
from orchestrator.pipeline import layers
from orchestrator.weights import needs

NEEDS = ["flexgen", "flux1-dev-vae"]


@pytest.fixture
def own_models(hub, tmp_path, monkeypatch):
    """Weights of one's own: `own_models(name)` puts one there."""
    folder = tmp_path / "models"
    monkeypatch.setenv("KISS3D_MODELS", str(folder))

    def put(name: str, file: str) -> None:
        (folder / name / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / name / file).write_bytes(b"x")

    return put


def assert_told(done) -> None:
    assert done.returncode == 2
    for line in (
        "flexgen                    3.5 GB  trouble",
        "flux1-dev-vae              170 MB  trouble  (gated: https://huggingface.co/black-forest-",
        "together                   3.7 GB",
        "  -> kiss3d-orchestrate models pull flexgen flux1-dev-vae\n",
    ):
        assert line in done.stderr


def test_a_run_lists_them_and_leaves_nothing_behind(kiss3d, hub, picture, config_file, tmp_path):
    done = kiss3d("run", picture, "--config", config_file(needs=NEEDS))
    assert_told(done)
    assert done.stdout == ""
    assert list(tmp_path.glob("outputs/*")) == []
    done = kiss3d("run", picture, "--config", config_file(needs=NEEDS), "--output", "out")
    assert done.returncode == 2
    assert not (tmp_path / "out").exists()


def test_the_json_document_lists_them_too(kiss3d, hub, picture, config_file):
    done = kiss3d("run", picture, "--config", config_file(needs=NEEDS), "--json")
    assert done.returncode == 2
    document = json.loads(done.stdout)
    assert document["missing_weights"] == [
        {"name": "flexgen", "gb": 3.5, "nodes": ["trouble"]},
        {"name": "flux1-dev-vae", "gb": 0.17, "nodes": ["trouble"]},
    ]


def test_a_plan_is_shown_and_then_what_is_missing(kiss3d, hub, picture, config_file):
    done = kiss3d("plan", picture, "--config", config_file(needs=NEEDS))
    assert_told(done)
    assert "\ntrouble " in done.stdout
    done = kiss3d("plan", picture, "--config", config_file(needs=NEEDS), "--json")
    assert done.returncode == 2
    document = json.loads(done.stdout)
    assert [row["name"] for row in document["missing_weights"]] == NEEDS
    assert [row["node"] for row in document["nodes"]] == ["source", "trouble", "sink"]


def test_a_plan_names_a_missing_card_before_the_weights(kiss3d, hub, picture, config_file):
    config = config_file(needs=NEEDS, attempts=[{"device": "cuda"}])
    done = kiss3d("plan", picture, "--config", config, "--device", "cpu")
    assert done.returncode == 2
    card = done.stderr.index("trouble needs a GPU, and none may be used")
    assert card < done.stderr.index("weights that this needs are not on this machine")


def test_a_batch_lists_them_and_makes_no_directory(kiss3d, hub, picture, config_file, tmp_path):
    done = kiss3d("batch", tmp_path, "--glob", "*.txt", "--config", config_file(needs=NEEDS))
    assert_told(done)
    assert not (tmp_path / "outputs").exists()


def test_a_node_that_is_not_asked_for_needs_none(kiss3d, hub, picture, config_file):
    config = config_file(needs=NEEDS)
    done = kiss3d("run", picture, "--config", config, "--until", "source")
    assert done.returncode == 0, done.stderr


def test_a_node_from_the_cache_needs_none(kiss3d, own_models, picture, config_file, tmp_path):
    own_models("flexgen", "flexgen.ckpt")
    config = config_file(needs=["flexgen"])
    assert kiss3d("run", picture, "--config", config, "--output", "out").returncode == 0
    (tmp_path / "models/flexgen/flexgen.ckpt").unlink()
    again = kiss3d("run", picture, "--config", config, "--output", "out")
    assert again.returncode == 0, again.stderr
    forced = kiss3d("run", picture, "--config", config, "--output", "out", "--from", "trouble")
    assert forced.returncode == 2
    assert "models pull flexgen" in forced.stderr
    assert leftovers(tmp_path) == []


def test_replaced_weights_are_used_and_what_was_used_is_recorded(
    kiss3d, own_models, picture, config_file, tmp_path
):
    file = tmp_path / "models/flexgen/flexgen.ckpt"
    own_models("flexgen", "flexgen.ckpt")
    arguments = (picture, "--config", config_file(needs=["flexgen"]), "--output", "out")
    assert kiss3d("run", *arguments).returncode == 0
    nodes = json.loads((tmp_path / "out/run.json").read_text())["nodes"]
    (used,) = nodes["trouble"]["weights"]
    assert (used["name"], used["place"]) == ("flexgen", str(file.parent))
    assert nodes["source"]["weights"] == []

    file.write_bytes(b"other weights")
    planned = kiss3d("plan", *arguments, "--json")
    rows = {row["node"]: row for row in json.loads(planned.stdout)["nodes"]}
    assert rows["source"]["cached"]
    assert "changed: weights.flexgen" in rows["trouble"]["reason"]
    assert kiss3d("run", *arguments).returncode == 0
    again = json.loads((tmp_path / "out/run.json").read_text())["nodes"]
    assert again["source"] == nodes["source"]
    assert len(again["trouble"]["attempts"]) == 2
    assert again["trouble"]["weights"][0]["digest"] != used["digest"]


def test_resume_and_a_redone_stage_say_it_as_well(
    kiss3d, own_models, picture, config_file, tmp_path
):
    own_models("flexgen", "flexgen.ckpt")
    config = config_file(needs=["flexgen"], mode="raise", flag=str(tmp_path / "once"))
    assert kiss3d("run", picture, "--config", config, "--output", "out").returncode == 1
    (tmp_path / "models/flexgen/flexgen.ckpt").unlink()
    for arguments in (("resume", "out"), ("stage", "trouble", "--run", "out")):
        done = kiss3d(*arguments)
        assert done.returncode == 2, done.stderr
        assert "models pull flexgen" in done.stderr
    own_models("flexgen", "flexgen.ckpt")
    assert kiss3d("resume", "out").returncode == 0


def test_a_resumed_batch_says_it_and_keeps_what_is_done(
    kiss3d, own_models, picture, config_file, tmp_path
):
    own_models("flexgen", "flexgen.ckpt")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "a.txt").write_text("1 2")
    config = config_file(needs=["flexgen"])
    arguments = ("batch", pictures, "--glob", "*.txt", "--config", config, "--output", "out")
    assert kiss3d(*arguments).returncode == 0
    (tmp_path / "models/flexgen/flexgen.ckpt").unlink()
    assert kiss3d("resume", "out").returncode == 0, "everything is there"
    (pictures / "b.txt").write_text("3 4")
    more = kiss3d(*arguments, "--resume")
    assert more.returncode == 2
    assert "models pull flexgen" in more.stderr
    assert not (tmp_path / "out" / "b").exists()


def test_a_folder_of_ones_own_that_does_not_exist_is_named(
    kiss3d, hub, picture, config_file, monkeypatch
):
    monkeypatch.setenv("KISS3D_MODELS", "/no/such/folder")
    done = kiss3d("run", picture, "--config", config_file(needs=NEEDS))
    assert_told(done)
    assert "KISS3D_MODELS=/no/such/folder is no folder" in done.stderr


def test_a_model_that_is_here_in_part_is_told_with_what_it_lacks(
    kiss3d, own_models, picture, config_file, tmp_path
):
    own_models("flux1-dev-vae", "vae/config.json")
    done = kiss3d("run", picture, "--config", config_file(needs=NEEDS))
    assert_told(done)
    folder = tmp_path / "models" / "flux1-dev-vae"
    assert f"{folder} holds a part of flux1-dev-vae, but not scheduler/*" in done.stderr


SHIPPED = [name for name in layers.profile_names() if name != "sketch"]


@pytest.mark.parametrize("profile", SHIPPED)
def test_every_shipped_profile_without_weights_ends_in_one_command(
    profile, kiss3d, hub, picture, tmp_path
):
    (tmp_path / "box.glb").write_bytes(box_glb())
    subject = {"input_mesh": ["box.glb"], "input_text": ["--text", "a vase"]}
    begins = needs.profile_graph(profile).given
    given = next((words for name, words in subject.items() if begins.get(name)), [picture])
    done = kiss3d("run", *given, "--profile", profile, "--device", "cpu")
    assert done.returncode == 2
    assert done.stdout == ""
    needed = list(needs.profile_needs(profile))
    listed = [line.split()[0] for line in done.stderr.splitlines() if " GB  " in line]
    listed += [line.split()[0] for line in done.stderr.splitlines() if " MB  " in line]
    assert sorted(listed) == sorted(needed)
    assert done.stderr.endswith(f"  -> kiss3d-orchestrate models pull {' '.join(needed)}\n")
    assert "Traceback" not in done.stderr
    assert list(tmp_path.glob("outputs/*")) == []


def test_a_path_in_the_params_that_does_not_exist(kiss3d, hub, picture, config_file):
    done = kiss3d("run", picture, "--config", config_file(needs=["./mine.safetensors"]))
    assert done.returncode == 2
    assert "./mine.safetensors: no such file or folder, which trouble names" in done.stderr
    assert "correct the path" in done.stderr


def test_a_lower_rung_is_offered_but_not_taken_unasked(kiss3d, own_models, picture, config_file):
    own_models("flux1-dev-gguf-q4", "flux1-dev-Q4_K_S.gguf")
    ladder = [{}, {"params": {"needs": ["flux1-dev-gguf-q4"]}, "degraded": "coarser"}]
    config = config_file(needs=["flexgen"], attempts=ladder)
    done = kiss3d("run", picture, "--config", config)
    assert done.returncode == 2
    assert (
        "trouble could use flux1-dev-gguf-q4, which is here (coarser): "
        "--set 'trouble.needs=[\"flux1-dev-gguf-q4\"]'"
    ) in done.stderr
    option = 'trouble.needs=["flux1-dev-gguf-q4"]'
    assert kiss3d("run", picture, "--config", config, "--set", option).returncode == 0


def test_a_lower_rung_without_weights_is_passed_over(kiss3d, own_models, picture, config_file):
    own_models("flexgen", "flexgen.ckpt")
    ladder = [
        {"params": {"mode": "oom"}},
        {"params": {"needs": ["flux1-dev-gguf-q8"]}},
        {"degraded": "coarser"},
    ]
    config = config_file(needs=["flexgen"], attempts=ladder)
    done = kiss3d("run", picture, "--config", config, "--output", "out")
    assert done.returncode == 0, done.stderr
    assert "missing_weights" in done.stderr
    assert "degraded: trouble: coarser" in done.stderr


def test_without_a_card_the_first_cpu_rung_counts(kiss3d, own_models, picture, config_file):
    own_models("flux1-dev-gguf-q4", "flux1-dev-Q4_K_S.gguf")
    ladder = [{"device": "cuda"}, {"params": {"needs": ["flux1-dev-gguf-q4"]}}]
    config = config_file(needs=["flexgen"], attempts=ladder)
    done = kiss3d("run", picture, "--config", config, "--device", "cpu")
    assert done.returncode == 0, done.stderr
