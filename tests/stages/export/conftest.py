"""What is exported in these tests."""

from __future__ import annotations

import pytest

from devtools.painted import painted_ball
from stages.export.model import Model


@pytest.fixture(scope="session")
def ball() -> Model:
    return painted_ball()
