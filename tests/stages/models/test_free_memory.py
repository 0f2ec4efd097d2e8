"""Free memory: the system's, or what a container may still take."""

from __future__ import annotations

from pathlib import Path

import psutil

from stages.models.free_memory import free_bytes

MIB = 1 << 20


def limits(folder: Path, limit: str, used: int, cached: int) -> Path:
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon {used - cached}\ninactive_file {cached}\n")
    return folder


def test_a_containers_limit_counts_and_cached_files_are_free(tmp_path: Path) -> None:
    folder = limits(tmp_path, str(100 * MIB), 90 * MIB, 30 * MIB)
    assert free_bytes("cpu", folder) == 40 * MIB


def test_a_container_beyond_its_limit_has_nothing_left(tmp_path: Path) -> None:
    assert free_bytes("cpu", limits(tmp_path, str(10 * MIB), 20 * MIB, 0)) == 0


def test_without_a_limit_the_system_decides(tmp_path: Path) -> None:
    total = psutil.virtual_memory().total
    assert 0 < free_bytes("cpu", tmp_path / "none") <= total
    assert 0 < free_bytes("cpu", limits(tmp_path, "max", 20 * MIB, 0)) <= total
    (tmp_path / "memory.max").write_text("garbage")
    assert 0 < free_bytes("cpu", tmp_path) <= total
