"""Tests of the page skip themselves where Gradio (the extra "web") is not installed."""

from __future__ import annotations

import importlib.util

import pytest

if importlib.util.find_spec("gradio") is None:  # its import takes seconds, and few tests need it
    pytest.skip("the extra web is not installed", allow_module_level=True)
