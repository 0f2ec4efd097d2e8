"""`models pull` as a user types it, against a hub that also misbehaves."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TypeVar

from devtools.fakes.hub import COMMIT, FLEXGEN, TOKEN, Repository, sha256, snapshot
from devtools.fakes.tools import cli_environment, command
from devtools.patience import PATIENCE, eventually

T = TypeVar("T")


def leftovers(home: Path) -> list[str]:
    return [p.name for p in home.rglob("*") if p.name.endswith((".part", ".incomplete"))]


def test_a_model_is_fetched_into_the_hubs_cache(kiss3d, hub, tmp_path):
    done = kiss3d("models", "pull", "flexgen")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "flexgen/flexgen.ckpt: 2.1 MB, hash verified" in done.stderr
    file = snapshot(tmp_path, "LTT/Kiss3DGen") / "flexgen.ckpt"
    assert file.read_bytes() == FLEXGEN
    assert file.resolve().name == sha256(FLEXGEN)
    assert not (file.parent / "rgb_normal.safetensors").exists(), "only what was asked for"
    assert kiss3d("models", "path", "flexgen").stdout.strip() == str(file.parent)
    assert leftovers(tmp_path) == []
    assert list(tmp_path.glob("hf/**/blobs/*.lock")) == []


def test_huggingface_hub_finds_what_was_pulled(kiss3d, hub, tmp_path):
    assert kiss3d("models", "pull", "flexgen").returncode == 0
    hub.repositories.clear()
    code = (
        "from huggingface_hub import hf_hub_download\n"
        "print(hf_hub_download('LTT/Kiss3DGen', 'flexgen.ckpt', local_files_only=True))"
    )
    env = cli_environment()
    python = command()[0]
    found = subprocess.run([python, "-c", code], env=env, capture_output=True, text=True)
    assert Path(found.stdout.strip()).read_bytes() == FLEXGEN, found.stderr


def test_what_is_here_is_not_asked_for_again(kiss3d, hub):
    assert kiss3d("models", "pull", "flexgen").returncode == 0
    hub.requests.clear()
    again = kiss3d("models", "pull", "flexgen")
    assert again.returncode == 0
    assert "already here" in again.stderr
    assert hub.requests == []


def test_a_cut_connection_is_resumed_where_it_broke(kiss3d, hub):
    hub.cuts["flexgen.ckpt"] = [700_000, 500_000]
    done = kiss3d("models", "pull", "flexgen")
    assert done.returncode == 0, done.stderr
    ranges = [request.range for request in hub.asked(sha256(FLEXGEN))]
    assert ranges == ["", "bytes=700000-", "bytes=1200000-"]
    assert kiss3d("models", "verify", "flexgen").returncode == 0


def test_a_killed_pull_is_resumed_by_the_next_one(kiss3d, hub, tmp_path):
    hub.stall["flexgen.ckpt"] = 1 << 20
    first = subprocess.Popen(
        command("models", "pull", "flexgen"), cwd=tmp_path, env=cli_environment()
    )
    assert hub.stalled.wait(PATIENCE)
    part = tmp_path / "hf/hub/models--LTT--Kiss3DGen/blobs" / f"{sha256(FLEXGEN)}.part"
    eventually(lambda: part.exists() and part.stat().st_size)
    first.send_signal(signal.SIGKILL)
    first.wait()
    kept = part.stat().st_size
    assert 0 < kept <= 1 << 20
    hub.resume.set()
    hub.requests.clear()
    second = kiss3d("models", "pull", "flexgen")
    assert second.returncode == 0, second.stderr
    assert [request.range for request in hub.asked(sha256(FLEXGEN))] == [f"bytes={kept}-"]
    assert leftovers(tmp_path) == []


def test_several_files_come_at_once(hub, tmp_path):
    hub.stall["flexgen.ckpt"] = 1 << 20
    names = ("flexgen", "kiss3dgen-lora")
    with subprocess.Popen(
        command("models", "pull", *names, "--workers", "2"), cwd=tmp_path, env=cli_environment()
    ) as process:
        assert hub.stalled.wait(PATIENCE)
        lora = tmp_path / "hf/hub/models--LTT--Kiss3DGen/blobs" / sha256(b"lora" * 1000)
        eventually(lora.exists)
        hub.resume.set()
        assert process.wait(PATIENCE) == 0


def test_ctrl_c_stops_and_keeps_what_has_come(hub, tmp_path):
    hub.stall["flexgen.ckpt"] = 1 << 20
    process = subprocess.Popen(
        command("models", "pull", "flexgen"),
        cwd=tmp_path,
        env=cli_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert hub.stalled.wait(PATIENCE)
    process.send_signal(signal.SIGINT)
    hub.resume.set()
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "interrupted" in said
    assert "Traceback" not in said


def test_a_server_without_ranges_sends_all_again(kiss3d, hub):
    hub.no_ranges = True
    hub.cuts["flexgen.ckpt"] = [700_000]
    done = kiss3d("models", "pull", "flexgen")
    assert done.returncode == 0, done.stderr
    assert kiss3d("models", "verify", "flexgen").returncode == 0


def test_a_server_that_is_busy_for_a_moment_is_asked_again(kiss3d, hub):
    hub.statuses["flexgen.ckpt"] = [503, 429]
    done = kiss3d("models", "pull", "flexgen")
    assert done.returncode == 0, done.stderr


def test_a_wrong_hash_is_refused_and_nothing_of_it_stays(kiss3d, hub, tmp_path):
    hub.forged["flexgen.ckpt"] = b"evilgen" * 300_000
    done = kiss3d("models", "pull", "flexgen")
    assert done.returncode == 1
    assert "another hash than its publisher states" in done.stderr
    assert sha256(FLEXGEN) in done.stderr
    assert [p for p in tmp_path.glob("hf/**/blobs/*") if p.suffix != ".lock"] == []
    assert kiss3d("models", "path", "flexgen").returncode == 2
    hub.forged.clear()
    assert kiss3d("models", "pull", "flexgen").returncode == 0


FLORENCE = "florence-community/Florence-2-large"


def test_a_hub_that_states_another_hash_for_a_pinned_revision_is_not_trusted(kiss3d, hub):
    revision = "4271c66b88cdbc05735372ec13b2360108de5317"
    files = {"model.safetensors": b"something else", "config.json": b"{}", "merges.txt": b""}
    hub.repositories[FLORENCE] = Repository(files, refs=(revision,))
    done = kiss3d("models", "pull", "florence-2-large")
    assert done.returncode == 1
    assert "the hub states another hash for model.safetensors" in done.stderr
    assert hub.asked("model.safetensors") == []


def test_what_is_not_pinned_is_held_to_what_the_first_pull_brought(kiss3d, hub, tmp_path):
    """An unexpected file may be right: it is a warning. From then on nothing else will do."""
    first, second = b"first", b"second"
    hub.repositories["LTT/PRM"] = Repository({"final_ckpt.ckpt": first})
    done = kiss3d("models", "pull", "prm")
    assert done.returncode == 0, done.stderr
    assert "warning: prm: another file than configs/models.yaml expects" in done.stderr
    assert f"sha256:{sha256(first)}, not sha256:b33b7f84" in done.stderr
    record = json.loads((tmp_path / "cache/kiss3d-orchestrate/models/prm/pulled.json").read_text())
    assert record["commit"] == COMMIT
    assert record["hashes"] == {"final_ckpt.ckpt": f"sha256:{sha256(first)}"}
    assert kiss3d("models", "verify", "prm").returncode == 0
    # The same commit with other content: the hub, or a mirror, does not tell the truth.
    shutil.rmtree(tmp_path / "hf")
    hub.repositories["LTT/PRM"] = Repository({"final_ckpt.ckpt": second})
    done = kiss3d("models", "pull", "prm")
    assert done.returncode == 1
    assert "another hash for final_ckpt.ckpt" in done.stderr
    assert "pulled.json" in done.stderr


def test_a_repository_that_moved_on_is_asked_for_the_commit_that_was_recorded(
    kiss3d, hub, tmp_path
):
    assert kiss3d("models", "pull", "flexgen").returncode == 0
    shutil.rmtree(tmp_path / "hf")
    hub.requests.clear()
    hub.repositories["LTT/Kiss3DGen"].refs = ()  # `main` is another commit now
    assert kiss3d("models", "pull", "flexgen").returncode == 0
    assert snapshot(tmp_path, "LTT/Kiss3DGen").is_dir()


def test_a_small_file_with_a_wrong_hash_is_refused_too(kiss3d, hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.forged["vae/config.json"] = b'{"a": 2}'
    done = kiss3d("models", "pull", "flux1-dev-vae")
    assert done.returncode == 1
    assert "flux1-dev-vae/vae/config.json" in done.stderr
    assert "another hash" in done.stderr
    hub.forged.clear()
    assert kiss3d("models", "pull", "flux1-dev-vae").returncode == 0


def test_a_damaged_rest_of_an_earlier_pull_is_thrown_away(kiss3d, hub, tmp_path):
    blobs = tmp_path / "hf/hub/models--LTT--Kiss3DGen/blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{sha256(FLEXGEN)}.part").write_bytes(b"x" * 1000)
    done = kiss3d("models", "pull", "flexgen")
    assert done.returncode == 0, done.stderr
    assert kiss3d("models", "verify", "flexgen").returncode == 0
