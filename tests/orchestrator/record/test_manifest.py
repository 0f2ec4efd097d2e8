"""run.json as data: what was given, and records of the first version."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from orchestrator.record.manifest import InputRecord, Manifest

PICTURE = {"source": "/p/a.png", "file": "input.png", "size": 3, "digest": "d"}
MASK = {"source": "/p/m.png", "file": "mask.png", "size": 4, "digest": "e"}


def test_a_record_of_the_first_version_keeps_its_picture_and_mask():
    manifest = Manifest.model_validate({"input": PICTURE, "mask": MASK, "seed": 7})
    assert list(manifest.given) == ["input_image", "input_mask"]
    assert manifest.given["input_mask"].file == "mask.png"
    assert manifest.input.title == "/p/a.png"
    again = Manifest.model_validate(manifest.model_dump(mode="json"))
    assert again == manifest


def test_a_record_of_the_first_version_without_a_mask():
    manifest = Manifest.model_validate({"input": PICTURE, "mask": None})
    assert list(manifest.given) == ["input_image"]


def test_words_are_called_by_themselves():
    words = InputRecord(text="a red vase", file="input.txt", size=10, digest="d")
    assert Manifest(given={"input_text": words}).input.title == '"a red vase"'


@pytest.mark.parametrize("given", [{}, {"../x": PICTURE}, {"a": {**PICTURE, "file": "../a"}}])
def test_what_was_given_must_be_something_with_plain_names(given):
    with pytest.raises(ValidationError):
        Manifest.model_validate({"given": given})
