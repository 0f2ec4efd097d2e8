"""What a profile can begin with, and what is refused before anything is read."""

from __future__ import annotations

import pytest

from orchestrator.errors import ConfigError
from orchestrator.planning.options import Options, Start, start_of
from orchestrator.planning.request import prepare
from orchestrator.planning.shortages import require_inputs


@pytest.mark.parametrize(
    ("given", "start"),
    [
        (["input_image", "input_mask", "input_text"], "picture"),
        (["input_text"], "text"),
        (["input_mesh", "input_text"], "mesh"),
    ],
)
def test_what_was_given_says_what_a_run_begins_with(given, start):
    assert start_of(given) == start


@pytest.mark.parametrize(
    ("profile", "start", "given", "said", "hint"),
    [
        ("sketch", "text", ["input_text"], "words alone were given, which need Flux", "text"),
        ("full_12gb", "text", ["input_text"], "begins with a picture", "--profile text"),
        ("text", "picture", ["input_image"], "begins with words, and a picture", "full_12gb"),
        ("multiview_only", "mesh", ["input_mesh"], "begins with a picture, and a mesh", "enhance"),
        ("redux_only", "picture", ["input_image", "input_back"], "--back: profile", "leave it out"),
    ],
)
def test_a_profile_that_begins_with_something_else_is_refused(profile, start, given, said, hint):
    prepared = prepare(Options(profile=profile, device="cpu", start=start))
    with pytest.raises(ConfigError, match=said) as caught:
        require_inputs(prepared, start, given)
    assert hint in caught.value.hint


def test_a_mask_and_a_background_contradict_each_other():
    prepared = prepare(Options(profile="sketch", background="white"))
    with pytest.raises(ConfigError, match="both say where the object is"):
        require_inputs(prepared, "picture", ["input_image", "input_mask"])


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("sketch", "drawn from four sides, and a new mesh is made of the views"),
        ("enhance", "Flux draws these views anew, and a new mesh is made of the views"),
        ("retexture", ""),
    ],
)
def test_a_mesh_that_is_made_anew_is_told_and_the_profile_that_keeps_it(profile, said):
    told = " ".join(prepare(Options(profile=profile, device="cpu", start="mesh")).notes)
    assert said in told
    assert ("--profile retexture keeps its shape" in told) == bool(said)
    assert not prepare(Options(profile="sketch", device="cpu")).notes


@pytest.mark.parametrize(("start", "profile"), [("text", "text"), ("picture", "sketch")])
def test_without_a_card_auto_takes_what_can_begin_so(start: Start, profile: str):
    assert prepare(Options(device="cpu", start=start)).settings.name == profile
