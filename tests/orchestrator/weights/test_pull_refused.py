"""`models pull` where a gate is closed, the network is no help, or nothing can be kept."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from devtools.fakes.hub import FLEXGEN, TOKEN, FakeHub, sha256, snapshot


def test_a_gated_model_without_a_token_names_the_page_and_the_way_to_log_in(kiss3d, hub):
    done = kiss3d("models", "pull", "flux1-dev-vae")
    assert done.returncode == 1
    for word in ("gated", "https://huggingface.co/black-forest-labs/FLUX.1-dev", "models login"):
        assert word in done.stderr
    assert "HF_TOKEN" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_whose_account_has_not_accepted_is_told_so(kiss3d, hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    done = kiss3d("models", "pull", "flux1-dev-vae")
    assert done.returncode == 1
    assert "your account has no access to it yet" in done.stderr
    assert "hf_other" not in done.stderr


def test_a_token_opens_the_gate_and_is_not_shown_to_other_hosts(kiss3d, hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    done = kiss3d("models", "pull", "flux1-dev-vae")
    assert done.returncode == 0, done.stderr
    revision = "3de623fc3c33e44ffbe2bad470d0f45bccf2eb21"
    folder = snapshot(tmp_path, "black-forest-labs/FLUX.1-dev", revision)
    assert (folder / "vae/config.json").read_bytes() == b'{"a": 1}'
    assert not (folder / "transformer").exists()
    assert {r.authorization for r in hub.requests if "/cdn/" in r.path} == {""}
    assert f"Bearer {TOKEN}" in {r.authorization for r in hub.requests if "/resolve/" in r.path}


def test_a_gated_model_does_not_stop_the_others(kiss3d, hub):
    done = kiss3d("models", "pull", "flux1-dev-vae", "flexgen", "--json")
    assert done.returncode == 1
    states = {row["name"]: row["state"] for row in json.loads(done.stdout)}
    assert states == {"flux1-dev-vae": "failed", "flexgen": "pulled"}
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda repos: repos.pop("LTT/Kiss3DGen"), ["LTT/Kiss3DGen", "401"]),
        (lambda repos: setattr(repos["LTT/Kiss3DGen"], "private", True), ["401", "models login"]),
        (lambda repos: setattr(repos["LTT/Kiss3DGen"], "refs", ()), ["no revision main", "404"]),
        (lambda repos: repos["LTT/Kiss3DGen"].files.pop("flexgen.ckpt"), ["has no flexgen.ckpt"]),
    ],
    ids=["no such repository", "private", "no such revision", "no such file"],
)
def test_what_the_hub_has_not_is_said_plainly(change, words, kiss3d, hub):
    change(hub.repositories)
    done = kiss3d("models", "pull", "flexgen")
    assert done.returncode == 1
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_refused_says_403(kiss3d, hub):
    hub.statuses["flexgen.ckpt"] = [403]
    done = kiss3d("models", "pull", "flexgen")
    assert done.returncode == 1
    assert "refused (403)" in done.stderr


def test_offline_refuses_before_it_asks(kiss3d, hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = kiss3d("models", "pull", "flexgen")
    assert done.returncode == 2
    assert "HF_HUB_OFFLINE is set" in done.stderr
    assert hub.requests == []


def test_offline_is_content_with_what_is_here(kiss3d, hub, monkeypatch):
    assert kiss3d("models", "pull", "flexgen").returncode == 0
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert kiss3d("models", "pull", "flexgen").returncode == 0


@pytest.fixture
def no_pauses(tmp_path, monkeypatch):
    """The command line tries again at once, where the hub's client would wait for 25 seconds."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(
        "import time\npause = time.sleep\ntime.sleep = lambda seconds: pause(min(seconds, 0.01))\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ["PYTHONPATH"]]))


@pytest.mark.usefixtures("no_pauses")
def test_a_hub_that_is_not_there(kiss3d, hub, monkeypatch):
    """The client's retries are told in one line of ours, and none of its own."""
    nowhere = "http://127.0.0.1:9"
    monkeypatch.setenv("HF_ENDPOINT", nowhere)
    done = kiss3d("models", "pull", "qwen2-1.5b", "florence-2-large", "flexgen")
    assert done.returncode == 1
    again, *errors = done.stderr.splitlines()
    assert again.startswith(f"{nowhere} does not answer as it should (")
    assert again.endswith("): trying again")
    for line in errors[:-1]:
        assert re.match(
            f"error: [a-z0-9.-]+: {nowhere} cannot be reached|  -> .*HTTPS_PROXY.*HF_ENDPOINT", line
        ), line
    assert errors[-1] == "not here: qwen2-1.5b, florence-2-large, flexgen"


@pytest.mark.parametrize("setting", ["", "HF_HUB_VERBOSITY=debug", "HF_DEBUG=1"])
def test_nothing_that_a_library_logs_is_printed(setting, kiss3d, hub, monkeypatch):
    if setting:
        monkeypatch.setenv(*setting.split("="))
    hub.statuses["LTT/Kiss3DGen"] = [503]
    done = kiss3d("models", "pull", "flexgen")
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines[:2] == [
        f"{hub.url} does not answer as it should (status 503): trying again",
        "to download: 0.00 GB",
    ]
    assert len(lines) == 4, "the file, and that the model is done"


def test_a_host_of_a_plain_url_that_is_not_there(hub, monkeypatch, tmp_path):
    """The hub is well: its mirrors are no way out, but a proxy is, and the file by other means.

    In this process, in which nothing pauses between two tries.
    """
    from click.testing import CliRunner

    from orchestrator.cli.models import models
    from orchestrator.weights import download

    set_hub(monkeypatch, hub, tmp_path)
    monkeypatch.setattr(download, "PAUSES", [0.0] * len(download.PAUSES))
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    done = CliRunner().invoke(models, ["pull", "isnet-general-use"])
    assert done.exit_code == 1
    assert "isnet-general-use: https://github.com does not answer as it should" in done.stderr
    assert "https://github.com/danielgatis/rembg/" in done.stderr
    assert "through HTTPS_PROXY=http://127.0.0.1:9" in done.stderr
    assert str(tmp_path / "cache/kiss3d-orchestrate/models/isnet-general-use") in done.stderr
    assert "HF_" not in done.stderr
    assert "secret" not in done.stderr


def test_a_disk_without_room_is_refused_before_anything_is_fetched(hub, tmp_path, monkeypatch):
    """In this process: a full disk cannot be made without rights on the machine."""
    from click.testing import CliRunner

    from orchestrator.cli.models import models
    from orchestrator.errors import OutputError

    set_hub(monkeypatch, hub, tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1 << 20))
    done = CliRunner().invoke(models, ["pull", "flexgen"])
    assert isinstance(done.exception, OutputError)
    assert done.exception.exit_code == 2
    assert "0.0 GB free" in done.exception.message
    assert hub.asked(sha256(FLEXGEN)) == []


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("HTTPS_PROXY", "socks5://me:secret@127.0.0.1:9", "socks5://127.0.0.1:9"),
        ("https_proxy", "ftp://127.0.0.1", "ftp://127.0.0.1"),
        ("SSL_CERT_FILE", "/no/such/ca.pem", "/no/such/ca.pem"),
        ("SSL_CERT_FILE", __file__, __file__),
    ],
    ids=["socks", "no proxy's scheme", "no file", "no certificate"],
)
def test_a_setting_of_the_network_that_cannot_work_is_named(
    name, value, told, kiss3d, hub, tmp_path, monkeypatch
):
    """In an environment without the package that SOCKS needs, as ours is."""
    monkeypatch.setenv("PYTHONPATH", f"{without('socksio', tmp_path)}:{os.environ['PYTHONPATH']}")
    monkeypatch.setenv(name, value)
    for command_line in (("pull", "flexgen"), ("login",)):
        done = kiss3d("models", *command_line, input=TOKEN)
        assert done.returncode == 2
        assert f"error: {name}={told}" in done.stderr or f"({name}={told})" in done.stderr
        assert "secret" not in done.stderr
        assert ("pip install socksio" in done.stderr) == value.startswith("socks")
    assert hub.requests == []


def without(package: str, folder: Path) -> Path:
    """A folder for PYTHONPATH that hides a package, should somebody have it."""
    (folder / "hide").mkdir()
    (folder / "hide" / f"{package}.py").write_text("raise ImportError")
    return folder / "hide"


def test_a_cache_that_can_be_no_folder_is_named(kiss3d, hub, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    done = kiss3d("models", "pull", "flexgen")
    assert done.returncode == 2
    assert f"{tmp_path / 'file'} is no folder" in done.stderr
    assert "HF_HOME" in done.stderr
    assert hub.requests == []
    for listing in ("list", "verify"):
        assert f"warning: the Hugging Face cache {tmp_path}" in kiss3d("models", listing).stderr


@pytest.mark.parametrize("given", ["/no/such/folder", "~/no-such-folder", "~nobody-is-called-so/m"])
def test_a_folder_of_ones_own_that_is_not_there_is_named_with_its_path(
    given, kiss3d, hub, monkeypatch
):
    monkeypatch.setenv("KISS3D_MODELS", given)
    where = Path(os.path.expanduser(given))
    for arguments in (("list",), ("verify",), ("path", "flexgen"), ("pull", "flexgen")):
        said = kiss3d("models", *arguments).stderr
        assert f"KISS3D_MODELS={given}" in said, arguments
        assert str(where) in said
        assert "is no folder" in said


def test_names_that_do_not_exist(kiss3d, hub):
    done = kiss3d("models", "pull", "flexgem")
    assert done.returncode == 2
    assert 'did you mean "flexgen"?' in done.stderr
    assert kiss3d("models", "pull").returncode == 2


def set_hub(monkeypatch: pytest.MonkeyPatch, hub: FakeHub, home: Path) -> None:
    """The same hub for this process, whose huggingface_hub has read its environment before."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hf/hub"))
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
