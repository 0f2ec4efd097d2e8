"""Tiny weights for whole profiles, built once a session."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for KISS3D_MODELS with every name that the shipped profiles load."""
    from devtools.tiny.models import build_models

    return build_models(tmp_path_factory.mktemp("models"))
