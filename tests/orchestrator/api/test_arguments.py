"""Arguments of another type than they should be are refused in words, before anything begins."""

from __future__ import annotations

import pytest

import kiss3d
from orchestrator.api.calls import options


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"target_vram": "lots"}, "target_vram: 'lots' is not a valid number"),
        ({"host_ram": None}, "host_ram: None is not a valid number"),
        ({"profile": 3}, "profile: 3 is not"),
        ({"keep": "resutl"}, "keep: 'resutl' is not 'all', 'result' or 'mesh'"),
        ({"device": 0}, "device: 0 is not"),
        ({"caption": 5}, "caption: 5 is not"),
        ({"until": 3}, "until: 3 is not"),
        ({"seed": 1.5}, "seed: 1.5 is not"),
        ({"settings": "multiview.grid=3"}, "settings: 'multiview.grid=3' is no mapping"),
        ({"settings": [1]}, "settings: [1] is no mapping"),
        ({"formats": 5}, "formats: 5 is no list"),
        ({"formats": "stl"}, "formats: 'stl' is one text"),
        ({"on_event": 5}, "on_event: 5 cannot be called"),
    ],
)
@pytest.mark.parametrize("function", [kiss3d.run, kiss3d.start])
def test_what_is_of_another_type_is_refused(function, wrong, words, picture, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(kiss3d.UsageError) as caught:
        function(picture, **wrong)
    assert words in caught.value.message
    assert caught.value.hint
    assert sorted(tmp_path.iterdir()) == before


def test_numbers_may_come_as_text():
    assert options(target_vram="8.5", seed="7").target_vram == 8.5
