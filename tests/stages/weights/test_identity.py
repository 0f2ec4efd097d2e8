"""Weights are told apart by looking at their folder, never by reading them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stages.weights import catalogue
from stages.weights.identity import Identity, identify

REPO = "models--some--small"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two entries, and no weights on the machine."""
    from huggingface_hub import constants

    file = tmp_path / "models.yaml"
    file.write_text(
        "small: {repo: some/small, files: ['net/*'], size_gb: 1, licence: MIT}\n"
        "old: {repo: some/old, files: [model.ckpt], size_gb: 1, licence: MIT}\n"
    )
    monkeypatch.setattr(catalogue, "catalogue_file", lambda: file)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path / "own"))


def write(path: Path, content: bytes = b"1234") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def hub_file(tmp_path: Path, commit: str, name: str, blob: str) -> None:
    """A file of a snapshot as the hub's client leaves it: a link to its blob."""
    storage = tmp_path / "hub" / REPO
    write(storage / "refs" / "main", commit.encode())
    write(storage / "blobs" / blob)
    link = storage / "snapshots" / commit / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(storage / "blobs" / blob, link.parent))


def test_missing_weights_have_an_empty_identity(tmp_path: Path) -> None:
    assert identify("small") == Identity(None)
    assert identify(str(tmp_path / "no.safetensors")) == Identity(None)


def test_files_of_the_hub_are_known_by_their_blobs(tmp_path: Path) -> None:
    hub_file(tmp_path, "c1", "net/a.safetensors", "blob1")
    first = identify("small")
    assert (first.place, first.revision) == (tmp_path / "hub" / REPO / "snapshots" / "c1", "c1")
    os.utime(tmp_path / "hub" / REPO / "blobs" / "blob1", (1, 1))
    assert identify("small") == first, "what is the same blob was only touched"
    hub_file(tmp_path, "c2", "net/a.safetensors", "blob1")
    second = identify("small")
    assert (second.revision, second.digest) == ("c2", first.digest), "a commit of other files"
    hub_file(tmp_path, "c3", "net/a.safetensors", "blob2")
    assert identify("small").digest != first.digest


def test_what_else_a_snapshot_holds_does_not_matter(tmp_path: Path) -> None:
    """One repository may serve two entries, pulled one after the other."""
    hub_file(tmp_path, "c1", "net/a.safetensors", "blob1")
    before = identify("small")
    hub_file(tmp_path, "c1", "vae/b.safetensors", "blob2")
    assert identify("small") == before


CHANGES: dict[str, Callable[[Path], object]] = {
    "another size": lambda file: file.write_bytes(b"12345"),
    "another time": lambda file: os.utime(file, ns=(5, 5)),
    "another name": lambda file: file.rename(file.with_name("c.safetensors")),
    "a file more": lambda file: file.with_name("config.json").write_bytes(b"{}"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("name", ["small", "path"])
def test_files_of_ones_own_are_known_by_name_size_and_time(
    tmp_path: Path, name: str, change: Callable[[Path], object]
) -> None:
    file = write(tmp_path / "own" / "small" / "net" / "a.safetensors")
    name = str(tmp_path / "own" / "small") if name == "path" else name
    before = identify(name)
    assert before == identify(name)
    assert (before.place, before.revision) == (tmp_path / "own" / "small", "")
    change(file)
    assert identify(name).digest != before.digest


def test_a_folder_that_was_moved_holds_the_same_weights(tmp_path: Path) -> None:
    write(tmp_path / "one" / "net" / "a.safetensors")
    before = identify(str(tmp_path / "one"))
    (tmp_path / "one").rename(tmp_path / "two")
    assert identify(str(tmp_path / "two")).digest == before.digest
    shutil.copytree(tmp_path / "two", tmp_path / "three", copy_function=shutil.copy)
    assert identify(str(tmp_path / "three")).digest != before.digest, "a copy has another time"


def test_one_file_is_known_with_what_it_was_converted_to_and_its_configuration(
    tmp_path: Path,
) -> None:
    file = write(tmp_path / "lora.ckpt")
    seen = {identify(str(file)).digest}
    write(tmp_path / "other.safetensors")
    assert identify(str(file)).digest in seen
    for name in ("lora.safetensors", "prm.json"):
        write(tmp_path / name)
        seen.add(identify(str(file)).digest)
    assert len(seen) == 3


def test_a_converted_checkpoint_of_the_hub_counts(tmp_path: Path) -> None:
    storage = tmp_path / "hub" / "models--some--old"
    write(storage / "refs" / "main", b"c1")
    file = write(storage / "snapshots" / "c1" / "model.ckpt")
    before = identify("old")
    assert before.revision == "c1", "also where the file is no link"
    write(file.with_suffix(".safetensors"))
    assert identify("old").digest != before.digest


def test_no_weights_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "own" / "small" / "net" / "a.safetensors")
    catalogue.catalogue()

    plain = Path.open

    def refuse(path: Path, *words: Any, **options: Any) -> Any:
        assert path.suffix == ".json", f"opened {path}"  # what a pull has recorded
        return plain(path, *words, **options)

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert identify("small").digest
