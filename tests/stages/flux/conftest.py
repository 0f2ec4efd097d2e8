"""What the tests of flux share: a tiny checkpoint with the published one's layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from devtools.tiny import flux as tiny


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny.build_all(folder)
    return folder
