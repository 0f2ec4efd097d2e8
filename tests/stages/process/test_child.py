"""What a stage process tells about itself."""

from __future__ import annotations

import sys
import types

from stages.process import child as host
from stages.process.connection import Connection


def test_a_heartbeat_during_the_import_of_torch_says_no_vram_and_does_not_fail(monkeypatch):
    """A module that is being imported is in sys.modules already, without what it will have."""
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    heart = host.Heart(Connection("", "", "", "", 0, 0, 1.0, 0.0), None)
    assert heart.beat().vram == -1
    assert heart.peaks["vram"] == -1


def test_a_heart_outlives_a_cuda_context_that_an_error_has_poisoned(monkeypatch):
    """It also watches the parent, and the failure that is about to be told waits for it."""

    def poisoned() -> int:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    torch = types.ModuleType("torch")
    torch.cuda = types.SimpleNamespace(
        is_initialized=lambda: True, memory_reserved=lambda: 5, max_memory_reserved=lambda: 7
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    heart = host.Heart(Connection("", "", "", "", 0, 0, 1.0, 0.0), None)
    heart.beat()
    torch.cuda.memory_reserved = poisoned
    assert heart.beat().vram == -1
    assert heart.peaks["vram"] == 7, "what was seen before counts on"
