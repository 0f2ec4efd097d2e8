"""Benches still run: rehearsed with tiny networks where they have any, on the CPU."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PARTS = ("build", "samplers", "overlap", "equality", "batch")
COMMANDS = {
    "samplers": ["-m", "bench.networks.samplers", "--seeds", "1"],
    "kernels": ["-m", "bench.networks.kernels", "--tiny", "--device", "cpu", "--repeats", "1"],
    "flux_caps": ["-m", "bench.memory.flux_caps", "--tiny", "--caps", "8"],
    "batch_memory": ["-m", "bench.robustness.batch_memory", "--jobs", "8", "--every", "4"],
    "rasterize": ["-m", "bench.geometry.rasterize", "--quick"],
    "full_scale": ["-m", "bench.full_scale", *PARTS, "--tiny", "--sizes", "1", "2"],
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_bench_prints_its_table(command: Sequence[str], tmp_path: Path) -> None:
    own = ["--models", str(tmp_path)] if "bench.full_scale" in command else []
    done = subprocess.run(
        [sys.executable, *command, *own], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "-----" in done.stdout
    assert '"error"' not in done.stdout, "a row of a part that failed"
