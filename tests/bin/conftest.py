"""A toy checkout for the tests of the launchers, and none of the user's settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from devtools.fakes.checkout import FakeCheckout


@pytest.fixture(autouse=True)
def _no_settings_of_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KISS3D_VENV_CACHE", raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)


@pytest.fixture
def checkout(tmp_path: Path) -> FakeCheckout:
    root = tmp_path / "a checkout"
    root.mkdir()
    return FakeCheckout.make(root)
