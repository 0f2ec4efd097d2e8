"""Reading checkpoints without running a pickle's code, and converting them once."""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from fakes.tools import cli_environment, leftovers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from stages.common.checkpoint import load_state_dict
from stages.common.convert import convert
from stages.contract import StageError


class Evil:
    """A pickle that would make a file."""

    def __init__(self, proof: Path) -> None:
        self._proof = proof

    def __reduce__(self):
        return (os.mkdir, (str(self._proof),))


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "net.a": torch.randn(3, 4, generator=generator),
        "net.b": torch.randn(5, generator=generator).half(),
        "other.c": torch.arange(4),
    }


def equal(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[k], wanted[k]) for k in wanted)


@pytest.fixture
def lightning(tmp_path: Path) -> Path:
    path = tmp_path / "final.ckpt"
    torch.save({"state_dict": tensors(), "epoch": 3, "pytorch-lightning_version": "2.1"}, path)
    return path


def test_a_lightning_checkpoint_is_unwrapped(lightning):
    assert equal(load_state_dict(lightning), tensors())


def test_a_prefix_selects_and_is_stripped(lightning):
    found = load_state_dict(lightning, "net.")
    assert equal(found, {"a": tensors()["net.a"], "b": tensors()["net.b"]})


def test_a_plain_state_dict_in_either_format_of_torch_save(tmp_path):
    for zipped in (True, False):
        path = tmp_path / f"plain{zipped}.bin"
        torch.save(tensors(), path, _use_new_zipfile_serialization=zipped)
        assert zipfile.is_zipfile(path) is zipped
        assert equal(load_state_dict(path), tensors())


def test_safetensors_are_read_as_they_are(tmp_path):
    save_file(tensors(), tmp_path / "a.safetensors")
    assert equal(load_state_dict(tmp_path / "a.safetensors"), tensors())


def evil_files(folder: Path, proof: Path) -> dict[str, Path]:
    """Files that would make the folder `proof` if a pickle's code ran."""
    torch.save({"state_dict": {**tensors(), "x": Evil(proof)}}, folder / "zip.ckpt")
    torch.save(Evil(proof), folder / "old.bin", _use_new_zipfile_serialization=False)
    (folder / "bare.pth").write_bytes(pickle.dumps(Evil(proof), protocol=2))
    (folder / "modern.pt").write_bytes(pickle.dumps(Evil(proof), protocol=4))
    return {path.suffix: path for path in folder.iterdir()}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", [".ckpt", ".bin", ".pth", ".pt"])
def test_a_malicious_pickle_is_refused_and_runs_nothing(suffix, tmp_path):
    proof, folder = tmp_path / "proof", tmp_path / "evil"
    folder.mkdir()
    path = evil_files(folder, proof)[suffix]
    # torch knows no operand of the newer protocol, and stops before it comes to the code.
    says = "cannot be read" if suffix == ".pt" else "is refused.*mkdir"
    for work in (load_state_dict, convert):
        with pytest.raises(StageError, match=says) as caught:
            work(path)
        assert caught.value.kind == "missing_weights"
        assert "weights_only" not in caught.value.message, "no advice to open the door"
    assert not proof.exists()
    assert not path.with_suffix(".safetensors").exists()


def test_a_class_that_is_harmless_but_unknown_is_named(tmp_path):
    torch.save({"state_dict": tensors(), "options": argparse.Namespace()}, tmp_path / "a.ckpt")
    with pytest.raises(StageError, match=r"is refused.*argparse\.Namespace"):
        load_state_dict(tmp_path / "a.ckpt")


@pytest.mark.parametrize(
    "content", [b"", b"<html>not found</html>", b"version https://git-lfs.github.com/spec/v1\n"]
)
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_file_that_is_no_checkpoint_says_so(content, suffix, tmp_path):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content)
    with pytest.raises(StageError, match="cannot be read") as caught:
        load_state_dict(path)
    assert "models verify" in caught.value.hint


def test_a_file_that_ends_early_says_so(lightning):
    content = lightning.read_bytes()
    lightning.write_bytes(content[: len(content) // 2])
    with pytest.raises(StageError, match="cannot be read"):
        load_state_dict(lightning)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, torch.zeros(3)])
def test_a_file_without_a_state_dict_says_so(content, tmp_path):
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(StageError, match="no state dict"):
        load_state_dict(tmp_path / "a.ckpt")


def test_what_was_converted_is_read_in_its_place(lightning):
    target, count = convert(lightning)
    assert (target, count) == (lightning.with_suffix(".safetensors"), 3)
    lightning.write_bytes(b"x" * lightning.stat().st_size)
    os.utime(lightning, (1, 1))
    assert equal(load_state_dict(lightning), tensors())
    lightning.unlink()
    assert equal(load_state_dict(lightning), tensors())
    assert leftovers(lightning.parent) == []


def test_tied_and_strided_tensors_keep_all_their_names(tmp_path):
    base = torch.randn(4, 6)
    wanted = {"a": base, "tied": base, "view": base[:2], "turned": base.T, "none": torch.zeros(0)}
    torch.save(wanted, tmp_path / "tied.bin")
    convert(tmp_path / "tied.bin")
    assert equal(load_file(tmp_path / "tied.safetensors"), wanted)


@pytest.mark.parametrize("newer", [True, False])
def test_a_checkpoint_that_was_replaced_is_read_itself(newer, lightning):
    """Another one of the same architecture has the same size; then its time tells."""
    convert(lightning)
    other = {key: tensor + 1 for key, tensor in tensors().items()}
    if newer:
        torch.save({"state_dict": other, "epoch": 3, "pytorch-lightning_version": "2.1"}, lightning)
        later = lightning.with_suffix(".safetensors").stat().st_mtime + 10
        os.utime(lightning, (later, later))
    else:
        torch.save(other, lightning)
        os.utime(lightning, (1, 1))
    assert equal(load_state_dict(lightning), other)


def test_the_publishers_own_safetensors_are_taken_whatever_their_time(lightning):
    theirs = {"z": torch.zeros(2)}
    save_file(theirs, lightning.with_suffix(".safetensors"))
    os.utime(lightning.with_suffix(".safetensors"), (1, 1))
    assert equal(load_state_dict(lightning), theirs)


def test_in_the_hubs_cache_the_new_file_lies_in_the_snapshot(lightning, tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    lightning.rename(blobs / "abc")
    (snapshot / "final.ckpt").symlink_to(blobs / "abc")
    convert(snapshot / "final.ckpt")
    assert [path.name for path in blobs.iterdir()] == ["abc"]
    assert not (snapshot / "final.safetensors").is_symlink()
    assert equal(load_state_dict(snapshot / "final.ckpt"), tensors())


def test_a_conversion_that_fails_leaves_the_old_file(lightning, monkeypatch):
    import safetensors.torch

    target, _ = convert(lightning)
    before = target.read_bytes()

    def fail(*arguments: object, **options: object) -> None:
        Path(str(arguments[1])).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        convert(lightning)
    assert target.read_bytes() == before
    assert leftovers(lightning.parent) == []


def test_the_program_answers_in_json(lightning):
    program = [sys.executable, "-m", "stages.common.convert", str(lightning)]
    done = subprocess.run(program, capture_output=True, text=True, env=cli_environment())
    assert done.returncode == 0, done.stderr
    assert '"tensors": 3' in done.stdout
    with safe_open(lightning.with_suffix(".safetensors"), framework="pt") as file:
        assert sorted(file.keys()) == sorted(tensors())
