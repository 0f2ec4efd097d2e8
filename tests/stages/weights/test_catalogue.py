"""Which folder a model is found in, and when a folder counts as complete."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from stages.contract import StageError
from stages.weights import catalogue as weights

COMMIT = "1" * 40
ENTRIES = {
    "small": {"repo": "some/small", "files": ["model.ckpt"], "size_gb": 1, "licence": "MIT"},
    "large": {
        "repo": "some/large",
        "files": ["net/*", "config.json"],
        "size_gb": 2,
        "licence": "MIT",
        "revision": COMMIT,
    },
    "plain": {"url": "https://host/a.onnx", "files": ["a.onnx"], "size_gb": 1, "licence": "MIT"},
}


@pytest.fixture
def catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """Write another catalogue; the three entries to begin with. No weights on the machine."""

    def write(data: object) -> None:
        file = tmp_path / f"models-{len(list(tmp_path.iterdir()))}.yaml"
        file.write_text(data if isinstance(data, str) else yaml.safe_dump(data))
        monkeypatch.setattr(weights, "catalogue_file", lambda: file)

    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write(ENTRIES)
    return write


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def snapshot(home: Path, repo: str, commit: str = COMMIT, ref: str = "main") -> Path:
    storage = home / "hub" / f"models--{repo.replace('/', '--')}"
    put(storage / "refs", ref)
    (storage / "refs" / ref).write_text(commit)
    return storage / "snapshots" / commit


def test_a_folder_of_ones_own_comes_before_the_hubs_cache(catalogue, tmp_path):
    cached = put(snapshot(tmp_path, "some/small"), "model.ckpt")
    assert weights.find("small") == cached
    own = put(tmp_path / "own" / "small", "model.ckpt")
    assert weights.find("small") == own
    assert weights.find_file("small") == own / "model.ckpt"


def test_an_incomplete_folder_of_ones_own_is_passed_over(catalogue, tmp_path):
    put(tmp_path / "own" / "large", "net/model.safetensors")
    cached = put(snapshot(tmp_path, "some/large"), "net/model.safetensors", "config.json")
    assert weights.find("large") == cached


def test_the_revision_settles_which_snapshot_counts(catalogue, tmp_path):
    put(snapshot(tmp_path, "some/large", "2" * 40), "net/model.safetensors", "config.json")
    assert weights.locate("large") is None, "another commit than the pinned one"
    put(snapshot(tmp_path, "some/small", "2" * 40), "model.ckpt")
    assert weights.find("small").name == "2" * 40, "main is where the last download left it"


def test_plain_files_lie_in_the_programs_own_cache(catalogue, tmp_path):
    assert weights.locate("plain") is None
    folder = put(tmp_path / "cache/kiss3d-orchestrate/models/plain", "a.onnx")
    assert weights.find_file("plain") == folder / "a.onnx"


@pytest.mark.parametrize(
    "names",
    [
        ["config.json"],
        ["config.json", "net/model-00001-of-00002.safetensors"],
        [
            "config.json",
            "net/model-00001-of-00002.safetensors",
            "net/model-00002-of-00002.safetensors",
        ],
    ],
    ids=["nothing in net", "a shard is missing", "the shards' index is missing"],
)
def test_a_part_of_a_model_is_not_the_model(names, catalogue, tmp_path):
    folder = put(snapshot(tmp_path, "some/large"), *names)
    assert weights.locate("large") is None
    put(folder, "net/model.safetensors.index.json")
    put(folder, *(f"net/model-0000{n}-of-00002.safetensors" for n in (1, 2)))
    assert weights.locate("large") == folder


def test_an_interrupted_download_is_told_by_the_hubs_own_listing(catalogue, tmp_path):
    folder = put(snapshot(tmp_path, "some/large"), "net/config.json", "config.json")
    assert weights.locate("large") == folder, "nothing says that more belongs to it"
    listing = {"format_version": 1, "files": {"net/model.bin": {}, "net/config.json": {}, "x": {}}}
    put(folder.parent.parent / "trees", f"{COMMIT}.json")
    (folder.parent.parent / "trees" / f"{COMMIT}.json").write_text(json.dumps(listing))
    model = weights.catalogue()["large"]
    assert weights.missing_files(model, folder) == ["net/model.bin"]
    put(folder, "net/model.bin")
    assert weights.locate("large") == folder


def test_a_listing_of_an_unknown_format_is_ignored(catalogue, tmp_path):
    folder = put(snapshot(tmp_path, "some/large"), "net/config.json", "config.json")
    put(folder.parent.parent / "trees", f"{COMMIT}.json")
    assert weights.hub_listing(folder) == {}
    assert weights.locate("large") == folder


def test_the_converted_file_alone_will_do(catalogue, tmp_path):
    folder = put(tmp_path / "own" / "small", "model.safetensors")
    assert weights.find("small") == folder
    assert weights.find_file("small") == folder / "model.safetensors"


def test_a_link_to_a_blob_that_is_gone_does_not_count(catalogue, tmp_path):
    folder = snapshot(tmp_path, "some/small")
    folder.mkdir(parents=True)
    (folder / "model.ckpt").symlink_to(tmp_path / "gone")
    assert weights.locate("small") is None


def test_a_path_stands_for_itself(catalogue, tmp_path):
    folder = put(tmp_path / "mine", "a.safetensors")
    assert weights.find(str(folder)) == folder
    assert weights.find_file(str(folder / "a.safetensors")) == folder / "a.safetensors"
    with pytest.raises(StageError, match="is a folder") as caught:
        weights.find_file(str(folder))
    assert caught.value.kind == "missing_weights"


def test_a_name_of_the_catalogue_is_not_taken_for_a_file_beside(catalogue, tmp_path, monkeypatch):
    monkeypatch.chdir(put(tmp_path / "here", "small"))
    with pytest.raises(StageError, match="are not on this machine"):
        weights.find_file("small")


def test_what_is_missing_says_how_to_get_it(catalogue):
    with pytest.raises(StageError, match="small are not on this machine") as caught:
        weights.find("small")
    assert caught.value.kind == "missing_weights"
    assert caught.value.hint == "kiss3d-orchestrate models pull small"
    with pytest.raises(StageError, match="neither a file, nor a folder"):
        weights.find("./nowhere")


WRONG = {
    "an unknown key": ({"sise_gb": 1}, "sise_gb"),
    "no size": ({"size_gb": None}, "size_gb"),
    "two sources": ({"url": "https://host/a"}, "either repo or url"),
    "no source": ({"repo": ""}, "either repo or url"),
    "no files": ({"files": []}, "files"),
    "a file outside": ({"files": ["../../.ssh/*"]}, "inside of the repository"),
    "a hash that is none": ({"hashes": {"model.ckpt": "sha256:12"}}, "64 hex"),
    "a repo that is a url": ({"repo": "https://hub/some/small"}, "repo"),
    "no mapping": (None, "expected a mapping"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_entry_is_named(case, catalogue):
    change, says = WRONG[case]
    entry = None if change is None else {**ENTRIES["small"], **change}
    catalogue({**ENTRIES, "small": entry})
    with pytest.raises(weights.CatalogueError, match="small") as caught:
        weights.catalogue()
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["a: [", "- a\n- b\n"])
def test_a_file_that_is_no_catalogue(text, catalogue):
    catalogue(text)
    with pytest.raises(weights.CatalogueError):
        weights.catalogue()


def test_the_shipped_catalogue_is_sound():
    known = weights.catalogue()
    assert {"flux1-dev-transformer", "zero123plus", "prm", "isnet-general-use"} <= set(known)
    for model in known.values():
        assert model.about
        assert model.url == "" or set(model.hashes) == set(model.files), "nobody else states one"
        assert set(model.hashes) == set(weights.wanted(model, model.hashes))
