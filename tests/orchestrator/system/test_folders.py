"""Folders that are not there yet."""

from pathlib import Path

import pytest

from orchestrator.system.folders import settled


def test_a_way_through_a_folder_that_is_not_there_is_the_one_it_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kept" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "kept")
    assert settled(Path("new/../inner/file")) == Path("inner/file")
    assert settled(Path("new/deep/../../../other")) == Path("../other")
    assert settled(tmp_path / "new" / ".." / "kept") == tmp_path.resolve() / "kept"


def test_other_paths_stay_as_they_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    for path in ("../out", "a/b", "../there/../new", ".", "/a/b"):
        assert settled(Path(path)) == Path(path)
