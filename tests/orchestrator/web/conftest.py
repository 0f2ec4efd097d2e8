"""Tests of the page skip themselves where Gradio (the extra "web") is not installed."""

from __future__ import annotations

import pytest

pytest.importorskip("gradio", reason="the extra web is not installed")
