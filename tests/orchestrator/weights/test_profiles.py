"""What profiles need follows from their stages' params; told by `models`, plan and doctor."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from orchestrator.cli.models import models as command
from orchestrator.commands import doctor
from orchestrator.errors import ConfigError, UnknownNameError, UsageError
from orchestrator.pipeline import layers
from orchestrator.pipeline.graph import Graph
from orchestrator.pipeline.profile import NodeConfig, Profile
from orchestrator.weights import needs
from stages.weights import catalogue

SHIPPED = layers.config_folder
LADDER = [
    {"device": "cuda"},
    {"device": "cuda", "params": {"needs": ["flux1-dev-gguf-q8"]}},
    {"device": "cpu", "params": {"needs": ["flux1-dev-gguf-q4"]}},
    {"device": "cpu", "params": {"needs": ["u2net"]}, "fallback": False},
]
NODES = {
    "source": {"stage": "fake.source"},
    "trouble": {
        "stage": "fake.trouble",
        "params": {"needs": ["prm", "flexgen"]},
        "attempts": LADDER,
    },
    "sink": {"stage": "fake.sink"},
}


@pytest.fixture(autouse=True)
def profiles(hub, tmp_path, monkeypatch) -> None:
    """Two shipped profiles, `tiny` and `none`; weights of one's own in tmp_path/own."""
    folder = tmp_path / "configs"
    folder.mkdir()
    (folder / "tiny.yaml").write_text(yaml.safe_dump({"nodes": NODES}))
    (folder / "bare.yaml").write_text(yaml.safe_dump({"nodes": {"source": NODES["source"]}}))
    monkeypatch.setattr(layers, "config_folder", lambda: folder)
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path / "own"))
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def graph() -> Graph:
    nodes = {name: NodeConfig.model_validate(node) for name, node in NODES.items()}
    return Graph.from_profile(Profile(nodes=nodes)).on_device("auto")


def put(home: Path, name: str, file: str) -> None:
    (home / "own" / name).mkdir(parents=True)
    (home / "own" / name / file).touch()


def test_the_rung_that_a_node_starts_on_settles_what_it_needs():
    assert needs.needs(graph()) == {"prm": ("trouble",), "flexgen": ("trouble",)}
    assert needs.needs(graph(), gpu=False) == {"flux1-dev-gguf-q4": ("trouble",)}
    assert set(needs.needs(graph(), fallbacks=True)) == {
        "prm",
        "flexgen",
        "flux1-dev-gguf-q8",
        "flux1-dev-gguf-q4",
    }


def test_what_two_nodes_share_is_listed_once():
    node = graph().nodes["trouble"]
    both = Graph([node, dataclasses.replace(node, name="again")])
    assert needs.needs(both)["prm"] == ("trouble", "again")


def test_missing_for_is_empty_when_all_is_here(tmp_path):
    assert [item.name for item in needs.missing_for(graph())] == ["prm", "flexgen"]
    put(tmp_path, "prm", "final_ckpt.ckpt")
    [missing] = needs.missing_for(graph())
    assert (missing.name, missing.nodes, missing.size) == ("flexgen", ("trouble",), 3_500_000_000)
    put(tmp_path, "flexgen", "flexgen.ckpt")
    assert needs.missing_for(graph()) == []


def test_select_by_name_and_by_profile():
    names = [model.name for model in needs.select(["u2net", "prm"], "tiny")]
    assert names == ["u2net", "prm", "flexgen"]
    assert len(needs.select((), "tiny", fallbacks=True)) == 4
    with pytest.raises(UnknownNameError, match='unknown model "prn"'):
        needs.select(["prn"])
    with pytest.raises(UnknownNameError, match='unknown profile "tinny"'):
        needs.select((), "tinny")
    with pytest.raises(UsageError, match="which models"):
        needs.select_some((), None)


def test_pulling_a_profile_brings_the_network_that_it_cuts_out_with(monkeypatch):
    monkeypatch.setattr(layers, "config_folder", SHIPPED)
    for profile in ("full_12gb", "optimized_12gb", "multiview_only", "redux_only", "sketch"):
        pulled = [model.name for model in needs.select_some((), profile)]
        assert pulled.count("isnet-general-use") == 1, profile
        assert "isnet-general-use" not in needs.profile_needs(profile), "a run does without it"


def test_list_adds_up_what_a_profile_needs():
    done = CliRunner().invoke(command, ["list", "--profile", "tiny", "--json"])
    document = json.loads(done.stdout)
    assert [row["name"] for row in document["models"]] == ["prm", "flexgen"]
    assert document["models"][0]["profiles"] == ["tiny"]
    assert document["profiles_gb"] == {"tiny": 8.1}
    assert "profile bare: needs none" in CliRunner().invoke(command, ["list"]).stdout


def test_the_doctor_has_a_row_for_each_profile(tmp_path):
    rows = {check.name: check for check in doctor.weight_checks(gpu=True)}
    assert (rows["weights: bare"].verdict, rows["weights: bare"].found) == ("ok", "needs none")
    tiny = rows["weights: tiny"]
    assert tiny.verdict == "warn"
    assert tiny.found == "2 of 2 missing (8.1 of 8.1 GB): prm, flexgen"
    assert tiny.remedy == "kiss3d-orchestrate models pull --profile tiny"
    put(tmp_path, "flux1-dev-gguf-q4", "flux1-dev-Q4_K_S.gguf")
    tiny = {check.name: check for check in doctor.weight_checks(gpu=False)}["weights: tiny"]
    assert (tiny.verdict, tiny.found) == ("ok", "all 1 here, 6.8 GB")


def test_a_broken_catalogue_is_an_error_with_its_place(tmp_path, monkeypatch):
    file = tmp_path / "broken.yaml"
    file.write_text("prm: {repo: LTT/PRM, files: [a], size_gb: 1}")
    monkeypatch.setattr(catalogue, "catalogue_file", lambda: file)
    with pytest.raises(ConfigError, match=r"prm\.licence: Field required"):
        needs.catalogue()
    rows = {check.name: check.verdict for check in doctor.weight_checks(gpu=True)}
    assert rows["weights: tiny"] == "fail"


def test_every_name_that_a_shipped_profile_needs_is_in_the_catalogue(monkeypatch):
    monkeypatch.setattr(layers, "config_folder", SHIPPED)
    for profile in layers.profile_names():
        needed = needs.profile_needs(profile, fallbacks=True)
        assert set(needed) <= set(catalogue.catalogue()), profile
        assert bool(needed) == (profile != "sketch")
