"""Reading weights ahead: in order, within the limit, never an error."""

from __future__ import annotations

import pytest

from stages.process import page_cache


@pytest.fixture
def asked(monkeypatch):
    """What the system is asked to fetch, as (offset, length)."""
    ranges: list[tuple[int, int]] = []
    monkeypatch.setattr(page_cache, "_PIECE", 1000)
    monkeypatch.setattr(page_cache, "_fetch", lambda file, at, length: ranges.append((at, length)))
    return ranges


def test_files_are_read_in_pieces_up_to_the_limit(tmp_path, asked):
    for name, size in (("a", 1500), ("b", 3000)):
        (tmp_path / name).write_bytes(bytes(size))
    reader = page_cache.CacheWarmer([tmp_path / "a", tmp_path / "b"], 3200)
    reader.run()
    assert asked == [(0, 1000), (1000, 500), (0, 1000), (1000, 700)]
    assert reader.done == 3200


def test_a_file_that_is_gone_is_left_to_load(tmp_path, asked):
    (tmp_path / "b").write_bytes(bytes(10))
    reader = page_cache.CacheWarmer([tmp_path / "a", tmp_path / "b"], 100)
    reader.run()
    assert asked == [(0, 10)]


def test_it_stops_when_told(tmp_path, asked):
    (tmp_path / "a").write_bytes(bytes(5000))
    reader = page_cache.CacheWarmer([tmp_path / "a"], 5000)
    reader.stop()
    reader.run()
    assert asked == []


def test_without_advice_the_range_is_read(tmp_path, monkeypatch):
    monkeypatch.delattr(page_cache.os, "posix_fadvise", raising=False)
    (tmp_path / "a").write_bytes(bytes(5000))
    reader = page_cache.CacheWarmer([tmp_path / "a"], 4000)
    reader.run()
    assert reader.done == 4000


def test_the_weights_of_a_stage_are_found_by_its_params(tmp_path, monkeypatch):
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path))
    (tmp_path / "prm").mkdir()
    (tmp_path / "prm" / "final_ckpt.ckpt").touch()
    assert page_cache.weight_files("prm.reference", {}) == [tmp_path / "prm" / "final_ckpt.ckpt"]
    own = tmp_path / "own.safetensors"
    own.touch()
    assert page_cache.weight_files("prm.reference", {"weights": str(own)}) == [own]
