"""Reading checkpoints without running a pickle's code, and converting them once."""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from devtools.fakes.tools import cli_environment, leftovers
from stages.contract import StageError
from stages.weights.checkpoint import load_state_dict, read_pickled
from stages.weights.convert import convert
from stages.weights.inert_pickle import _CALLABLE, _Inert, _Sealed, _StorageKind


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


class Options:
    """Stands for what is not installed where the file is read (omegaconf, a trainer's classes)."""

    def __init__(self) -> None:
        self.content = {"lr": 1e-4, "nested": [Path("/data"), functools.partial(max, 1)]}


class Marked(torch.Tensor):
    """A tensor subclass, as trainers and quantisers save them."""


def odd_contents() -> dict[str, Any]:
    counts: defaultdict[str, list[int]] = defaultdict(list, {"a": [1]})
    attributed = torch.ones(2)
    attributed.note = "mine"  # type: ignore[attr-defined]
    return {
        "object": Options(),
        "class": Options,
        "numpy scalar": np.float64(0.5),
        "numpy array": np.arange(3),
        "path": Path("/data/train"),
        "partial": functools.partial(print, 1),
        "default dict": counts,
        "set": {1, 2},
        "namespace": argparse.Namespace(batch=4),
        "function": shutil.rmtree,
        "attributed tensor": attributed,
    }


def save_as(form: str, content: object, path: Path) -> Path:
    """In each of the forms that torch.save has or had."""
    options: dict[str, Any] = {
        "zip": {},
        "protocol 4": {"pickle_protocol": 4},
        "protocol 5": {"pickle_protocol": 5},
        "legacy": {"_use_new_zipfile_serialization": False},
    }[form]
    torch.save(content, path, **options)
    return path


FORMS = ("zip", "protocol 4", "protocol 5", "legacy")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("odd", odd_contents())
def test_all_tensors_are_read_whatever_else_a_checkpoint_holds(odd, form, tmp_path, caplog):
    content = {"state_dict": tensors(), "hyper_parameters": odd_contents()[odd], "epoch": 3}
    path = save_as(form, content, tmp_path / "a.ckpt")
    assert equal(read_pickled(path), tensors())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_parameters_subclasses_and_new_dtypes_arrive_as_plain_tensors(form, tmp_path):
    plain = tensors()["net.a"]
    wanted = {
        "parameter": plain,
        "subclass": plain * 2,
        "small": plain.to(torch.float8_e4m3fn),
        "unsigned": torch.arange(4).to(torch.uint16),
        "strided": plain.T[1:],
    }
    content = OrderedDict(wanted, parameter=torch.nn.Parameter(plain))
    content["subclass"] = (plain * 2).as_subclass(Marked)
    content._metadata = {"version": 1}  # type: ignore[attr-defined]
    found = read_pickled(save_as(form, {"state_dict": content, "x": Options()}, tmp_path / "a.pt"))
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        assert type(tensor) is torch.Tensor
        assert tensor.dtype == wanted[name].dtype
        assert torch.equal(tensor.float(), wanted[name].float())


def test_what_was_not_read_is_told_by_name_in_one_line(tmp_path, caplog):
    content = {"state_dict": tensors(), "options": argparse.Namespace(at=Path("/x")), "f": eval}
    read_pickled(save_as("zip", content, tmp_path / "a.ckpt"))
    [line] = [record.getMessage() for record in caplog.records]
    assert "argparse.Namespace" in line
    assert "eval" in line
    assert "nothing was run" in line


class Calls:
    """A pickle that calls `function` with `arguments`, then sets `state` on what it returned."""

    def __init__(self, function: Any, *arguments: Any, state: Any = None) -> None:
        self._parts = (function, arguments, state)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._parts if self._parts[2] is not None else self._parts[:2]


def writes_on(name: str, state: object) -> bytes:
    """A bare pickle that sets `state` on the global `name`, as attributes or through setstate."""
    module, _, attribute = name.rpartition(".")
    head = pickle.PROTO + b"\x02" + pickle.GLOBAL + f"{module}\n{attribute}\n".encode()
    body = pickle.dumps(state, 2)[2:-1]
    return head + body + pickle.BUILD + pickle.STOP


def zip_of(pickled: bytes, folder: Path) -> Path:
    """A file as torch.save makes them, with this pickle in the place of its own."""
    whole, path = folder / "whole.pt", folder / "changed.pt"
    torch.save(tensors(), whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.namelist():
            new.writestr(entry, pickled if entry.endswith("/data.pkl") else old.read(entry))
    return path


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["mkdir", "system", "eval", "exec", "import", "state"])
def test_code_that_a_checkpoint_asks_for_is_not_run_and_its_tensors_are_read(kind, form, tmp_path):
    proof = tmp_path / "proof"
    code = f"__import__('os').mkdir({str(proof)!r})"
    evil = {
        "mkdir": Calls(os.mkdir, str(proof)),
        "system": Calls(os.system, f"mkdir {proof}"),
        "eval": Calls(eval, code),
        "exec": Calls(exec, code),
        "import": Calls(importlib.import_module, "this"),
        "state": Calls(Options, state={"__class__": Calls(os.mkdir, str(proof))}),
    }[kind]
    sys.modules.pop("this", None)
    path = save_as(form, {"state_dict": {**tensors(), "x": evil}}, tmp_path / "evil.ckpt")
    assert equal(read_pickled(path), tensors())
    target, count = convert(path)
    assert (target.name, count) == ("evil.safetensors", 3)
    assert not proof.exists()
    assert "this" not in sys.modules


@pytest.mark.parametrize(
    "name",
    [
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_parameter",
        "torch._tensor._rebuild_from_type_v2",
        "torch.Size",
        "torch.UntypedStorage",
        "torch.storage.UntypedStorage",
        "torch.FloatStorage",
        "torch.float32",
        "torch.nn.Parameter",
        "torch.Tensor",
        "collections.OrderedDict",
        "stages.weights.checkpoint.StageError",
    ],
)
@pytest.mark.parametrize("state", [{"left": 1}, (None, {"left": 1}), ({"left": 1}, {"left": 1})])
def test_nothing_can_be_written_onto_what_a_pickle_names(name, state, tmp_path):
    with pytest.raises(StageError, match="cannot be read"):
        read_pickled(zip_of(writes_on(name, state), tmp_path))
    module, _, attribute = name.rpartition(".")
    assert not hasattr(getattr(importlib.import_module(module), attribute), "left")
    for sealed in [*_CALLABLE.values(), _Inert, _Sealed, _StorageKind]:
        assert not hasattr(sealed, "left")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_torchscript_program_is_not_loaded(tmp_path):
    path = tmp_path / "program.pt"
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    with pytest.raises(StageError, match="TorchScript"):
        read_pickled(path)


def test_a_tar_file_is_not_unpacked(tmp_path):
    with tarfile.open(tmp_path / "old.pt", "w") as archive:
        archive.add(__file__, "storages")
    with pytest.raises(StageError, match=r"PyTorch 0\.1"):
        read_pickled(tmp_path / "old.pt")


def test_a_stage_reads_such_a_file_through_its_conversion(tmp_path):
    path = save_as("zip", {"state_dict": tensors(), "x": Options()}, tmp_path / "a.ckpt")
    assert equal(load_state_dict(path), tensors())
    assert equal(load_file(tmp_path / "a.safetensors"), tensors())
    assert leftovers(tmp_path) == []


def test_a_stage_reads_such_a_file_also_where_it_cannot_be_converted(tmp_path, monkeypatch):
    path = save_as("zip", {"state_dict": tensors(), "x": Options()}, tmp_path / "a.ckpt")
    monkeypatch.setattr("stages.weights.checkpoint.CONVERTER", "stages.weights.no_such_module")
    assert equal(load_state_dict(path), tensors())
    assert not (tmp_path / "a.safetensors").exists()


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
    program = [sys.executable, "-m", "stages.weights.convert", str(lightning)]
    done = subprocess.run(program, capture_output=True, text=True, env=cli_environment())
    assert done.returncode == 0, done.stderr
    assert '"tensors": 3' in done.stdout
    with safe_open(lightning.with_suffix(".safetensors"), framework="pt") as file:
        assert sorted(file.keys()) == sorted(tensors())
