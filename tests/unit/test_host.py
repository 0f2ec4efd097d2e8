"""What a stage process tells about itself."""

from __future__ import annotations

import sys
import types

from stages import host


def test_a_heartbeat_during_the_import_of_torch_says_no_vram_and_does_not_fail(monkeypatch):
    """A module that is being imported is in sys.modules already, without what it will have."""
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    assert host._vram_bytes() == (-1, -1)
