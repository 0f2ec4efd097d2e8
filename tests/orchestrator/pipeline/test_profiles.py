"""The shipped profiles: valid as they are, with their faster settings, and beside each other."""

from __future__ import annotations

import pytest

from orchestrator.errors import ConfigError
from orchestrator.pipeline import layers


def test_fast_lies_between_the_profile_and_the_users_file(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("nodes: {flux: {params: {steps: 12}}}")
    plain = layers.load("optimized_12gb")
    fast = layers.load("optimized_12gb", fast=True)
    assert plain.profile.nodes["multiview"].params["steps"] == 24
    assert fast.profile.nodes["multiview"].params["steps"] == 20
    assert fast.sources["nodes.multiview.params.steps"] == "--fast"
    assert layers.load("optimized_12gb", own, fast=True).profile.nodes["flux"].params["steps"] == 12


@pytest.mark.parametrize("name", ["full_12gb", "optimized_12gb", "redux_only", "text", "text_fast"])
def test_fast_keeps_20_steps_of_flux_and_evaluates_once_each(name):
    slow, fast = (layers.load(name, fast=fast).profile.nodes["flux"] for fast in (False, True))
    assert slow.params.get("sampler", "heun") == "heun"
    assert (fast.params["steps"], fast.params["sampler"]) == (20, "heun_pec")


@pytest.mark.parametrize("name", [n for n in layers.profile_names() if n != "sketch"])
def test_only_fast_takes_what_rounds_otherwise(name):
    plain = layers.load(name)
    node = plain.profile.nodes.get("flux")
    if node is None:
        return
    params = layers.params_of("flux", node)
    assert (params.compute, params.compile, params.cache) == ("bf16", "off", 0.0)
    if plain.profile.fast:
        fast = layers.params_of("flux", layers.load(name, fast=True).profile.nodes["flux"])
        assert (fast.compute, fast.compile, fast.cache) == ("auto", "auto", 0.0)


def test_fast_is_refused_where_a_profile_has_nothing_faster():
    with pytest.raises(ConfigError, match="sketch has no faster settings"):
        layers.load("sketch", fast=True)


@pytest.mark.parametrize("name", layers.profile_names())
def test_every_shipped_profile_is_valid_with_and_without_fast(name):
    settings = layers.load(name)
    assert settings.profile.description
    if settings.profile.fast:
        layers.load(name, fast=True)


def test_config_diff_shows_what_two_profiles_set_differently(kiss3d):
    done = kiss3d("config", "diff", "original", "optimized_12gb")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[2:]}
    assert rows["nodes.flux.params.steps"] == ["20", "14"]
    assert rows["nodes.flux.params.width"] == ["2048", "1280"]
    assert rows["nodes.isomer.params.stage2_steps"] == ["50", "40"]
    assert rows["nodes.preprocess.params.framing"] == ["reference", "centered", "(default)"]
    assert "nodes.flux.params.guidance_scale" not in rows


FROM_MESH = (
    "from_mesh:\n  nodes:\n    multiview: {enabled: false}\n    isomer: {params: {smooth: false}}\n"
)


def test_what_changes_with_a_mesh_lies_over_the_profile_and_below_fast(tmp_path, monkeypatch):
    shipped = layers.config_folder() / "multiview_only.yaml"
    (tmp_path / "own.yaml").write_text(shipped.read_text() + FROM_MESH)
    monkeypatch.setattr(layers, "config_folder", lambda: tmp_path)
    plain = layers.load("own").profile
    assert plain.nodes["multiview"].enabled
    mesh = layers.load("own", fast=True, from_mesh=True)
    assert not mesh.profile.nodes["multiview"].enabled
    assert mesh.sources["nodes.multiview.enabled"] == "from_mesh"
    assert mesh.sources["nodes.isomer.params.stage2_steps"] == "--fast"


def test_a_profile_without_it_is_the_same_with_a_mesh():
    assert layers.load("redux_only", from_mesh=True) == layers.load("redux_only")
