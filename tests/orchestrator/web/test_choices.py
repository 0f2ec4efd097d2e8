"""What a browser may choose: numbers and words of lists, and no path."""

from __future__ import annotations

import pytest

from orchestrator.errors import UsageError
from orchestrator.pipeline import layers
from orchestrator.planning.options import Options
from orchestrator.planning.request import prepare
from orchestrator.web.choices import (
    Choices,
    fitting,
    options_of,
    profiles,
    reads_words,
    starts,
)


def test_the_forms_fields_become_the_programs_options():
    made = options_of(
        Choices(
            profile="sketch",
            fast=True,
            seed="7",
            vram=8,
            caption="  a red\nrobot ",
            background="white",
            formats=["stl"],
            more="isomer.stage2_steps = 8\n\nisomer.smooth=false",
        )
    )
    assert made.sets == ("isomer.stage2_steps=8", "isomer.smooth=false")
    assert (made.profile, made.fast, made.seed, made.target_vram) == ("sketch", True, 7, 8.0)
    assert (made.caption, made.background, made.formats) == ("a red robot", "white", ("stl",))


def test_an_untouched_form_asks_for_what_the_program_does_by_itself():
    made = options_of(Choices())
    assert (made.profile, made.seed, made.caption, made.background) == ("auto", None, None, None)
    assert made.sets == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"profile": "../etc/passwd"},
        {"profile": "none"},
        {"seed": -1},
        {"seed": 1.5},
        {"seed": "1e9"},
        {"vram": -1},
        {"vram": float("nan")},
        {"formats": ["exe"]},
        {"background": "keep; x"},
        {"caption": "x" * 3000},
        {"more": "isomer.stage2_steps"},
        {"more": "isomer.nothing = 1"},
        {"more": "nothing.steps = 1"},
        {"more": "isomer.stage2_steps = /etc/passwd"},
        {"more": "isomer.stage2_steps = [1, 2]"},
        {"more": "preprocess.background = /etc/passwd"},
        {"more": "runtime.max_input_mib = 9"},
        {"more": "isomer.stage = fake.hostile"},
        {"more": "isomer.attempts = 1"},
        {"more": "\n".join(["isomer.stage2_steps = 1"] * 100)},
    ],
)
def test_what_a_browser_may_not_choose_is_refused_in_words(fields):
    with pytest.raises(UsageError) as caught:
        options_of(Choices(**{"profile": "sketch", **fields}))
    assert caught.value.hint


@pytest.mark.parametrize("profile", fitting("picture"))
def test_no_param_of_a_shipped_profile_takes_a_free_text(profile):
    for name, node in layers.load(profile).profile.nodes.items():
        for param in layers.node_stage(name, node).Params.model_fields:
            with pytest.raises(UsageError):
                options_of(Choices(profile=profile, more=f"{name}.{param} = ../../etc/passwd"))


def test_settings_of_stages_need_a_profile_of_their_own():
    with pytest.raises(UsageError, match="profile"):
        options_of(Choices(more="isomer.stage2_steps = 1"))


def test_profiles_are_offered_by_what_they_begin_with():
    pictures = [name for _, name in profiles("picture")]
    assert pictures[0] == "auto"
    assert {"sketch", "full_12gb"} <= set(pictures)
    assert {"text", "text_fast"} <= {name for _, name in profiles("text")}
    assert "sketch" not in [name for _, name in profiles("text")]
    assert "text" not in pictures
    assert {name for _, name in starts()} >= {"picture", "text"}
    with pytest.raises(UsageError, match="unknown profile"):
        options_of(Choices(profile="sketch"), "text")


def test_words_beside_a_mesh_are_for_profiles_that_read_them():
    assert not reads_words("mesh", "sketch")
    assert reads_words("mesh", "retexture")
    chosen = prepare(Options(profile="auto", start="mesh")).settings.name
    assert reads_words("mesh", "auto") == reads_words("mesh", chosen)
    assert not reads_words("mesh", "none")
