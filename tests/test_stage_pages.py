"""Every param of a stage is named on the stage's page, so that a reader can look it up."""

from __future__ import annotations

from pathlib import Path

import pytest

from stages.contract import registry

PAGES = Path(__file__).resolve().parents[1] / "docs" / "stages"
SHARED = {
    "zero123plus": "multiview",
    "hull.reference": "hull",
    "hull.reconstruct": "hull",
    "prm.reference": "lrm",
    "prm.reconstruct": "lrm",
}
"""Stages that share a page, or have one of another name."""
ELSEWHERE = {"encode": "flux", "retexture": "isomer"}
"""What a stage has in common with another one stands on that one's page."""


@pytest.mark.parametrize("name", sorted(registry.BUILT_IN))
def test_a_page_names_all_params(name: str) -> None:
    pages = [SHARED.get(name, name), *([ELSEWHERE[name]] if name in ELSEWHERE else [])]
    text = "".join((PAGES / f"{page}.md").read_text(encoding="utf-8") for page in pages)
    fields = registry.stage_class(name).Params.model_fields
    assert [field for field in fields if f"`{field}" not in text] == []
