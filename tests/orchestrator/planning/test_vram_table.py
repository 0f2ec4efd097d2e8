"""Choosing rungs by what they were measured to take."""

from __future__ import annotations

import json

import pytest
from pydantic import Field

from devtools.fakes.parts import make_stage
from orchestrator.errors import UsageError
from orchestrator.pipeline import layers
from orchestrator.pipeline.budget import GIB, Budget
from orchestrator.pipeline.graph import Graph
from orchestrator.pipeline.profile import NodeConfig, Profile
from orchestrator.planning import vram_table
from orchestrator.planning.options import Options
from orchestrator.planning.request import prepare
from orchestrator.system.gpu import Card, Gpu
from stages.contract import Params


class Sizes(Params):
    placement: str = Field("resident", description="")
    steps: int = Field(20, description="")


ROWS = (
    vram_table.VramRow(
        stage="big",
        when={"placement": "resident"},
        peak_gib=33.0,
        host_gib=1.0,
        load_seconds=4.0,
        job_seconds=1.0,
        step_seconds=0.5,
        steps="steps",
        measured="a card",
    ),
    vram_table.VramRow(
        stage="big",
        when={"placement": "streamed"},
        peak_gib=33.0,
        least_gib=5.0,
        host_gib=29.0,
        least_host_gib=2.0,
        measured="a card",
    ),
)


@pytest.fixture
def graph(monkeypatch):
    """One node, resident -> streamed -> cpu."""
    make_stage(monkeypatch, "big", writes="thing", params=Sizes)
    attempts = [
        {"device": "cuda", "params": {"placement": "resident"}},
        {"device": "cuda", "params": {"placement": "streamed"}},
        {"device": "cpu"},
    ]
    node = NodeConfig.model_validate({"stage": "big", "attempts": attempts})
    return Graph.from_profile(Profile(nodes={"flux": node}))


def gib(vram: float, host: float = 64.0) -> Budget:
    return Budget(int(vram * GIB), int(host * GIB), "told")


def placements(graph: Graph) -> list[str]:
    return [a.params.get("placement", a.device) for a in graph.nodes["flux"].config.attempts]


def test_a_large_card_takes_the_first_rung(graph):
    fitted = vram_table.fit(graph, gib(80), ROWS)
    assert placements(fitted) == ["resident", "streamed", "cpu"]
    expected = fitted.nodes["flux"].predictions[0]
    assert expected.vram == 33 * GIB
    assert expected.host == GIB
    assert expected.seconds == pytest.approx(4.0 + 1.0 + 20 * 0.5)
    assert fitted.nodes["flux"].skipped == ()


def test_a_small_card_starts_at_the_first_rung_that_fits_and_says_why(graph):
    fitted = vram_table.fit(graph, gib(12), ROWS).nodes["flux"]
    assert [a.params.get("placement", a.device) for a in fitted.config.attempts] == [
        "streamed",
        "cpu",
    ]
    (why,) = fitted.skipped
    assert "needs 33 GiB of the card, 12.0 may be used" in why


def test_a_rung_that_streams_takes_what_it_is_given(graph):
    expected = vram_table.fit(graph, gib(12, host=8), ROWS).nodes["flux"].predictions[0]
    assert (expected.vram, expected.host) == (12 * GIB, 8 * GIB)


@pytest.mark.parametrize(("card", "taken"), [(12, 11.5), (33, 33.0), (80, 33.0)])
def test_what_it_leaves_of_a_smaller_budget_is_not_predicted(graph, card, taken):
    rows = [ROWS[1].model_copy(update={"unused_gib": 0.5})]
    (expected,) = vram_table.fit(graph, gib(card), rows).nodes["flux"].predictions.values()
    assert expected.vram == taken * GIB


@pytest.mark.parametrize(("card", "host"), [(5, 29.0), (12, 22.0), (40, 2.0)])
def test_what_the_card_holds_is_not_in_host_memory(graph, card, host):
    rows = [ROWS[1].model_copy(update={"host_per_gib": 1.0})]
    (expected,) = vram_table.fit(graph, gib(card), rows).nodes["flux"].predictions.values()
    assert expected.host == host * GIB


@pytest.mark.parametrize("budget", [gib(4), gib(80, host=0.5)], ids=["vram", "host"])
def test_what_fits_nowhere_goes_to_the_cpu_rung(graph, budget):
    assert placements(vram_table.fit(graph, budget, ROWS)) == ["cpu"]


@pytest.mark.parametrize(
    ("budget", "reason", "hint"),
    [
        (gib(4), "rung 2 needs 5 GiB", "--target-vram 5 would do"),
        (gib(80, host=0.5), "rung 1 needs 1 GiB of host RAM", "--host-ram 1 would do"),
        (gib(12, host=0.5), "rung 2 needs 2 GiB of host RAM", "--host-ram 2 would do"),
        (gib(4, host=0.5), "rung 2 needs 5 GiB", "--target-vram 5 --host-ram 2 would do"),
        (gib(4, host=1.5), "rung 2 needs 5 GiB", "--target-vram 5 --host-ram 2 would do"),
    ],
    ids=["vram", "host, resident", "host, streamed", "both", "both, host for the upper rung only"],
)
def test_without_a_cpu_rung_it_is_refused_with_the_smallest_budget_that_works(
    graph, budget, reason, hint
):
    graph.nodes["flux"].config.attempts.pop()
    with pytest.raises(UsageError) as caught:
        vram_table.fit(graph, budget, ROWS)
    assert "flux does not fit" in caught.value.message
    assert reason in caught.value.message
    assert caught.value.hint == hint


def test_the_budget_that_is_named_lets_every_node_fit(kiss3d, picture):
    ask = ("plan", picture, "--profile", "full_12gb", "--json", "--target-vram")
    refused = json.loads(kiss3d(*ask, "1").stdout)
    assert "multiview does not fit" in refused["error"]
    assert "flux does not fit" in refused["error"]
    option, target, *_ = refused["hint"].split()
    assert option == "--target-vram"
    nodes = json.loads(kiss3d(*ask, target).stdout)["nodes"]
    assert all(node["margin"] >= 0 for node in nodes if node["expected"])
    less = json.loads(kiss3d(*ask, str(float(target) - 0.01)).stdout)
    assert less["state"] == "failed"


def test_a_plan_says_what_the_rung_that_fits_costs_and_what_follows(kiss3d, picture):
    ask = ("plan", picture, "--profile", "full_12gb", "--target-vram")
    whole, tiles = (kiss3d(*ask, target).stdout.splitlines() for target in ("6", "5"))
    assert not any(line.startswith("flux: degraded") for line in whole)
    [fallbacks] = [line for line in whole if line.startswith("flux: should that fail")]
    assert "vae_tiling=True (degraded: decoded in tiles that overlap), then cuda" in fallbacks
    assert "flux: degraded: decoded in tiles that overlap" in tiles


def test_a_plan_says_what_the_faster_settings_cost(kiss3d, picture):
    ask = ("plan", picture, "--profile", "full_12gb", "--target-vram", "6")
    fast = kiss3d(*ask, "--fast").stdout.splitlines()
    assert "flux: degraded: multiplied in eight bits where that is faster" in fast
    cached = kiss3d(*ask, "--set", "flux.cache=0.1").stdout
    assert (
        "flux: degraded: evaluations skipped whose first blocks change by less than 0.1" in cached
    )


def test_eight_bits_need_half_of_the_memory_that_weights_are_in():
    rows = vram_table.table()

    def flux(compute: str):
        profile = layers.load("full_12gb", sets=[f"flux.compute={compute}"]).profile
        node = Graph.from_profile(profile).nodes["flux"]
        return vram_table.predict(node, 1, gib(6), rows)

    plain, small = flux("bf16"), flux("w8a8")
    assert small.host < 0.6 * plain.host
    assert flux("auto").host == plain.host
    assert small.vram <= 6 * GIB
    whole = layers.load("full_12gb", sets=["flux.compute=w8a8"]).profile
    fitted = vram_table.fit(Graph.from_profile(whole), gib(28), rows)
    assert fitted.nodes["flux"].config.attempts[0].params["placement"] == "resident"
    assert fitted.nodes["flux"].predictions[0].vram < 28 * GIB


def test_a_margin_of_nothing_is_a_number(kiss3d, picture):
    exactly = ("--profile", "full_12gb", "--until", "multiview", "--target-vram")
    refused = json.loads(kiss3d("plan", picture, *exactly, "1", "--json").stdout)
    shown = kiss3d("plan", picture, *exactly, refused["hint"].split()[1]).stdout
    [multiview] = [line for line in shown.splitlines() if line.startswith("multiview  ")]
    assert "  0.0 GiB  " in multiview


def test_a_rung_that_nobody_measured_is_tried_as_it_is(graph):
    fitted = vram_table.fit(graph, gib(4), ())
    assert placements(fitted) == ["resident", "streamed", "cpu"]
    assert fitted.nodes["flux"].predictions == {}


def test_no_budget_means_no_limit(graph):
    assert placements(vram_table.fit(graph, Budget(), ROWS)) == ["resident", "streamed", "cpu"]


def test_a_budget_that_was_asked_for_is_planned_with_on_a_machine_without_a_card(kiss3d, picture):
    done = kiss3d("plan", picture, "--profile", "full_12gb", "--target-vram", "8", "--json")
    flux = next(n for n in json.loads(done.stdout)["nodes"] if n["node"] == "flux")
    assert 7 * GIB < flux["expected"]["vram"] <= 8 * GIB
    assert "rung 1 needs" in flux["skipped"][0]


def test_host_memory_that_was_asked_for_is_planned_with_without_a_card(kiss3d, picture):
    ask = ("plan", picture, "--profile", "full_12gb", "--json", "--host-ram")
    refused = json.loads(kiss3d(*ask, "0.5").stdout)
    assert "GiB of host RAM, 0.5 may be used" in refused["error"]
    assert refused["hint"].startswith("--host-ram ")
    nodes = json.loads(kiss3d(*ask, "16").stdout)["nodes"]
    assert next(n for n in nodes if n["node"] == "flux")["expected"]["host"] > 0


def test_only_what_is_asked_for_has_to_fit(kiss3d, picture):
    small = ("--profile", "full_12gb", "--target-vram", "1")
    assert kiss3d("plan", picture, *small, "--until", "preprocess").returncode == 0


@pytest.mark.parametrize("until", [None, "caption"])
def test_the_whole_graph_has_the_keys_of_what_is_asked_for(until):
    """What a run has finished on the rung that fits is not taken for stale at its end."""
    asked = prepare(Options(profile="full_12gb", target_vram=8, host_ram=64, until=until))
    assert list(asked.whole.nodes) == list(prepare(Options(profile="full_12gb")).whole.nodes)
    assert asked.graph.nodes.items() <= asked.whole.nodes.items()
    (dropped,) = asked.whole.nodes["flux"].skipped
    assert dropped.startswith("rung 1 needs")


def test_what_is_not_asked_for_and_fits_nowhere_keeps_its_rungs():
    asked = prepare(Options(profile="full_12gb", target_vram=1, until="caption"))
    flux = asked.whole.nodes["flux"]
    assert flux.skipped == ()
    assert flux.config.attempts[0].params["placement"] == "resident"


class Monitor:
    def __init__(self, *free_gib: float) -> None:
        self._gpus = [
            Gpu(i, "card", f"GPU-{i}", 80 * GIB, int((80 - free) * GIB))
            for i, free in enumerate(free_gib)
        ]

    def gpus(self) -> list[Gpu]:
        return self._gpus


CARDS = [Card(0, "GPU-0"), Card(1, "GPU-1")]


def test_the_default_budget_is_what_the_fullest_card_has_free_less_a_margin():
    budget = vram_table.budget_for(0, 0, CARDS, Monitor(70, 11.5))
    assert budget.vram == 11 * GIB
    assert "11.5 GiB of the card are free now" in budget.why


def test_only_the_cards_that_may_be_leased_count():
    assert vram_table.budget_for(0, 0, CARDS[:1], Monitor(70, 11.5)).vram == int(69.5 * GIB)


def test_what_is_asked_for_wins():
    budget = vram_table.budget_for(12, 16, CARDS, Monitor(70, 70))
    assert (budget.vram, budget.host) == (12 * GIB, 16 * GIB)


def test_without_a_card_there_is_no_vram_limit():
    assert vram_table.budget_for(0, 0, [], Monitor()).vram == 0


def test_the_shipped_table_is_valid_and_each_row_says_what_it_rests_on():
    for row in vram_table.table():
        assert row.measured
        assert row.least <= row.peak_gib
        assert row.least_host <= row.host_gib


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("profile", ["full_12gb", "optimized_12gb"])
def test_the_shipped_table_speaks_of_all_that_a_profile_does_on_a_card(profile, fast):
    graph = prepare(Options(profile=profile, fast=fast)).whole
    known = {
        (name, rung): vram_table.row_for(node, rung, vram_table.table())
        for name, node in graph.nodes.items()
        for rung, attempt in enumerate(node.config.attempts)
        if attempt.device == "cuda"
    }
    unknown = [place for place, row in known.items() if row is None]
    assert unknown == []


@pytest.mark.parametrize(
    ("params", "speaks"),
    [
        ({"kind": "a", "width": 10}, True),
        ({"kind": "b", "width": 3}, True),
        ({"kind": "c", "width": 3}, False),
        ({"kind": "a", "width": 11}, False),
        ({"kind": "a"}, False),
        ({"width": 3}, False),
    ],
)
def test_a_row_speaks_of_alternatives_and_of_what_is_no_larger(params, speaks):
    row = vram_table.VramRow(
        stage="big", when={"kind": ["a", "b"]}, at_most={"width": 10}, peak_gib=1, measured="here"
    )
    assert row.speaks_of(params) is speaks


@pytest.mark.parametrize(("kind", "seconds"), [("slow", 2.0), ("fast", 0.5)])
def test_a_step_takes_the_share_that_its_params_have(kind, seconds):
    factors = {"kind": {"fast": 0.25}}
    row = vram_table.VramRow(
        stage="big", peak_gib=1, step_seconds=2.0, step_factor=factors, measured="here"
    )
    assert row.seconds_a_step({"kind": kind}) == seconds
