"""`models list`, `verify`, `path` and `convert`, and the doctor's word on weights."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from devtools.fakes.hub import TOKEN, sha256

FLEXGEN = b"flexgen" * 300_000


def blob(home: Path) -> Path:
    return next(home.glob(f"hf/hub/models--LTT--Kiss3DGen/blobs/{sha256(FLEXGEN)}"))


def test_list_says_what_is_here_and_what_a_profile_needs(kiss3d, hub, tmp_path):
    assert kiss3d("models", "pull", "flexgen").returncode == 0
    done = kiss3d("models", "list", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    rows = {row["name"]: row for row in document["models"]}
    assert rows["flexgen"]["state"] == "yes"
    assert Path(rows["flexgen"]["folder"], "flexgen.ckpt").is_file()
    assert rows["kiss3dgen-lora"]["state"] == "no", "another file of the same snapshot"
    assert rows["qwen2-7b"]["state"] == "no"
    assert rows["flux1-dev-vae"]["gated"] is True
    assert document["profiles_gb"]["sketch"] == 0
    plain = kiss3d("models", "list").stdout
    assert "flux1-dev-vae*" in plain
    assert "profile sketch: needs none" in plain


def test_a_model_that_is_here_in_part_is_shown_so(kiss3d, hub, tmp_path, monkeypatch):
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path / "own"))
    (tmp_path / "own/flux1-controlnet-union").mkdir(parents=True)
    (tmp_path / "own/flux1-controlnet-union/config.json").touch()
    rows = json.loads(kiss3d("models", "list", "--json").stdout)["models"]
    [row] = [row for row in rows if row["name"] == "flux1-controlnet-union"]
    assert (row["state"], row["folder"]) == ("in part", "")
    done = kiss3d("models", "verify")
    assert done.returncode == 1
    assert "missing: diffusion_pytorch_model.safetensors" in done.stdout


def test_list_of_a_profile_that_does_not_exist(kiss3d, hub):
    done = kiss3d("models", "list", "--profile", "sketsch")
    assert done.returncode == 2
    assert 'did you mean "sketch"' in done.stderr


def test_verify_hashes_what_is_here(kiss3d, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert kiss3d("models", "pull", "flexgen", "flux1-dev-vae").returncode == 0
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = kiss3d("models", "verify", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert set(rows) == {"flexgen", "flux1-dev-vae"}
    assert rows["flexgen"]["verdict"] == "ok"
    kinds = {check["expected"].partition(":")[0] for check in rows["flux1-dev-vae"]["files"]}
    assert kinds == {"sha256", "git-sha1"}


def test_a_damaged_file_is_named_and_can_be_repaired(kiss3d, hub, tmp_path):
    assert kiss3d("models", "pull", "flexgen").returncode == 0
    damaged = bytearray(FLEXGEN)
    damaged[1_000_000] ^= 1
    blob(tmp_path).write_bytes(damaged)
    assert kiss3d("models", "pull", "flexgen").returncode == 0, "its size is right"
    done = kiss3d("models", "verify", "flexgen")
    assert done.returncode == 1
    assert "damaged: flexgen.ckpt" in done.stdout
    assert "models pull --repair flexgen" in done.stderr
    assert kiss3d("models", "pull", "--repair", "flexgen").returncode == 0
    assert blob(tmp_path).read_bytes() == FLEXGEN
    assert kiss3d("models", "verify", "flexgen").returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a right there")
def test_repair_removes_nothing_that_somebody_has_linked_into_the_cache(kiss3d, hub, tmp_path):
    assert kiss3d("models", "pull", "flexgen").returncode == 0
    [snapshot] = tmp_path.glob("hf/**/snapshots/*/flexgen.ckpt")
    mine = tmp_path / "blobs" / "mine.ckpt"
    mine.parent.mkdir()
    mine.write_bytes(FLEXGEN[:-1] + b"?")
    snapshot.unlink()
    snapshot.symlink_to(mine)
    assert kiss3d("models", "pull", "--repair", "flexgen").returncode == 0
    assert mine.read_bytes() == FLEXGEN[:-1] + b"?"
    assert snapshot.read_bytes() == FLEXGEN


def test_verify_of_what_is_not_here(kiss3d, hub):
    done = kiss3d("models", "verify", "flexgen")
    assert done.returncode == 1
    assert "missing: flexgen.ckpt" in done.stdout
    assert "-> kiss3d-orchestrate models pull flexgen" in done.stderr


def test_nothing_to_verify_is_said_with_where_was_looked(kiss3d, hub, tmp_path):
    done = kiss3d("models", "verify")
    assert (done.returncode, done.stdout) == (
        0,
        "nothing to verify: no weights are on this machine\n",
    )
    assert f"looked in the Hugging Face cache: {tmp_path / 'hf/hub'}" in done.stderr
    assert "models pull --profile NAME" in done.stderr
    of_sketch = kiss3d("models", "verify", "--profile", "sketch")
    assert of_sketch.returncode == 0
    assert "profile sketch needs no weights" in of_sketch.stdout
    assert json.loads(kiss3d("models", "verify", "--json").stdout) == []


def test_files_of_a_cache_that_lost_the_listing_cannot_be_verified(kiss3d, hub, tmp_path):
    assert kiss3d("models", "pull", "flexgen").returncode == 0
    storage = tmp_path / "hf/hub/models--LTT--Kiss3DGen"
    shutil.rmtree(storage / "trees")
    (tmp_path / "cache/kiss3d-orchestrate/models/flexgen/pulled.json").unlink()
    [file] = storage.glob("snapshots/*/flexgen.ckpt")
    content = file.read_bytes()
    file.unlink()
    file.write_bytes(content)  # as `cp -rL` leaves it
    done = kiss3d("models", "verify")
    assert done.returncode == 0, done.stderr
    assert "1 without a hash" in done.stdout
    assert "flexgen cannot be verified: the cache does not hold the hub's listing" in done.stderr
    shutil.rmtree(storage)
    assert kiss3d("models", "pull", "flexgen").returncode == 0
    again = kiss3d("models", "verify")
    assert "1 as stated" in again.stdout
    assert again.stderr == "1 as their publisher states\n"


def test_login_keeps_a_token_where_pull_finds_it(kiss3d, hub, tmp_path):
    refused = kiss3d("models", "login", input=f"{TOKEN}\n")
    assert refused.returncode == 2
    assert "does not accept this token (404)" in refused.stderr
    assert not (tmp_path / "hf/token").exists()
    hub.plain["/api/whoami-v2"] = b'{"name": "somebody", "auth": {}}'
    done = kiss3d("models", "login", input=f"{TOKEN}\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "logged in as somebody\n"
    assert TOKEN not in done.stdout + done.stderr
    assert (tmp_path / "hf/token").read_text() == TOKEN
    assert kiss3d("models", "pull", "flux1-dev-vae").returncode == 0


def test_login_says_itself_that_a_token_of_the_environment_goes_first(kiss3d, hub, monkeypatch):
    hub.plain["/api/whoami-v2"] = b'{"name": "somebody", "auth": {}}'
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    done = kiss3d("models", "login", input=f"{TOKEN}\n")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "warning: HF_TOKEN is set, and is used instead of what was kept now\n"


def test_login_at_a_hub_that_is_out_of_order_blames_no_token(kiss3d, hub):
    hub.plain["/api/whoami-v2"] = b"{}"
    hub.statuses["/api/whoami-v2"] = [503]
    done = kiss3d("models", "login", input=f"{TOKEN}\n")
    assert done.returncode == 1
    assert "answers with status 503" in done.stderr
    assert "does not accept" not in done.stderr


@pytest.mark.parametrize("given", ["", "\n", "caf\u00e9\n"])
def test_login_with_what_is_no_token(given, kiss3d, hub, tmp_path):
    done = kiss3d("models", "login", input=given)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "hf/token").exists()


def test_login_without_a_network(kiss3d, hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = kiss3d("models", "login", input=TOKEN)
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
    assert "HF_TOKEN" in done.stderr


def test_weights_of_ones_own_are_left_alone(kiss3d, hub, tmp_path, monkeypatch):
    own = tmp_path / "own/prm/final_ckpt.ckpt"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"fine-tuned")
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path / "own"))
    done = kiss3d("models", "verify", "prm", "--json")
    assert json.loads(done.stdout)[0]["verdict"] == "unknown"
    assert done.returncode == 0
    plain = kiss3d("models", "verify", "prm")
    assert "prm cannot be verified" in plain.stderr
    assert f"{own.parent} is your own (KISS3D_MODELS)" in plain.stderr
    assert "unknown:" not in plain.stdout
    assert kiss3d("models", "pull", "--repair", "prm").returncode == 0
    assert own.read_bytes() == b"fine-tuned"
    assert kiss3d("models", "path", "prm").stdout.strip() == str(own.parent)


def test_path_of_what_is_not_here_prints_nothing_on_stdout(kiss3d, hub):
    done = kiss3d("models", "path", "flexgen")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "models pull flexgen" in done.stderr
    assert kiss3d("models", "path", "flexgem").returncode == 2


def test_path_speaks_json(kiss3d, hub):
    done = kiss3d("models", "path", "flexgen", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["missing_weights"][0]["name"] == "flexgen"
    assert kiss3d("models", "pull", "flexgen").returncode == 0
    done = kiss3d("models", "path", "flexgen", "--json")
    assert done.stderr == ""
    told = json.loads(done.stdout)
    assert told["files"] == ["flexgen.ckpt"]
    assert Path(told["folder"], "flexgen.ckpt").is_file()


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny final_ckpt.ckpt of the model prm, in a folder of one's own."""
    path = tmp_path / "own/prm/final_ckpt.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": {"lrm_generator.a": torch.arange(3)}, "epoch": 1}, path)
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path / "own"))
    return path


def test_convert_writes_safetensors_beside(kiss3d, hub, checkpoint):
    done = kiss3d("models", "convert", "prm")
    assert done.returncode == 0, done.stderr
    target = checkpoint.with_suffix(".safetensors")
    assert done.stdout.strip() == str(target)
    assert load_file(target)["lrm_generator.a"].tolist() == [0, 1, 2]
    checkpoint.unlink()
    assert kiss3d("models", "path", "prm").returncode == 0, "the new file alone will do"


def test_convert_does_not_replace_a_file_that_it_did_not_make(kiss3d, hub, checkpoint):
    own = checkpoint.with_suffix(".safetensors")
    save_file({"mine": torch.arange(2)}, own)
    before = own.read_bytes()
    done = kiss3d("models", "convert", checkpoint)
    assert done.returncode == 1
    assert "was not made from final_ckpt.ckpt" in done.stderr
    assert own.read_bytes() == before
    own.unlink()
    for _ in range(2):  # its own it may make anew
        again = kiss3d("models", "convert", checkpoint)
        assert again.stdout.strip() == str(own), again.stderr
    assert load_file(own)["lrm_generator.a"].tolist() == [0, 1, 2]


def test_convert_keeps_the_tensors_of_a_file_that_holds_code_and_runs_none(
    kiss3d, hub, checkpoint, tmp_path
):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "proof"),))

    torch.save({"state_dict": {"a": torch.arange(3), "x": Evil()}}, checkpoint)
    done = kiss3d("models", "convert", "prm")
    assert done.returncode == 0, done.stderr
    assert list(load_file(checkpoint.with_suffix(".safetensors"))) == ["a"]
    assert not (tmp_path / "proof").exists()


def test_convert_says_what_is_no_checkpoint(kiss3d, hub, checkpoint):
    torch.save({"epoch": 3}, checkpoint)
    done = kiss3d("models", "convert", "prm")
    assert done.returncode == 1
    assert "holds no state dict" in done.stderr
    assert "Traceback" not in done.stderr
    assert not checkpoint.with_suffix(".safetensors").exists()


def test_convert_of_what_cannot_be_converted(kiss3d, hub, checkpoint, tmp_path):
    (tmp_path / "note.txt").write_text("hello")
    assert kiss3d("models", "convert", tmp_path / "note.txt").returncode == 2
    assert kiss3d("models", "convert", "flexgen").returncode == 2
    (tmp_path / "own/florence-2-large").mkdir()
    for name in ("config.json", "model.safetensors", "merges.txt"):
        (tmp_path / "own/florence-2-large" / name).touch()
    done = kiss3d("models", "convert", "florence-2-large")
    assert done.returncode == 2
    assert "no file to convert" in done.stderr


def test_the_parent_imports_no_model_library(tmp_path, hub):
    from devtools.import_cost import GEOMETRY, MODELS, imported_by

    for arguments in (("models", "list"), ("models", "pull", "flexgen"), ("models", "verify")):
        assert imported_by(tmp_path, *arguments) & (MODELS | GEOMETRY) == set()
