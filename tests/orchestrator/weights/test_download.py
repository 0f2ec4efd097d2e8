"""The download of one plain file, in this process so that its pauses can be left out."""

from __future__ import annotations

import hashlib
import sys
import threading
from pathlib import Path

import pytest

from devtools.fakes.hub import FakeHub, serve
from devtools.patience import PATIENCE
from orchestrator.errors import DownloadError
from orchestrator.weights import download, hub, network
from orchestrator.weights.download import RemoteFile
from orchestrator.weights.pull import Result, pull
from orchestrator.weights.verify import verify
from stages.weights import catalogue
from stages.weights.catalogue import Model

CONTENT = bytes(range(251)) * 4000
PATH = "/files/net.onnx"
MODEL = Model(name="net", url="http://host/net.onnx", files=("net.onnx",), size_gb=1, licence="MIT")


class Meter:
    """Remembers where it was set to, and how far it came."""

    def __init__(self) -> None:
        self.starts: list[tuple[int, int | None]] = []
        self.done = 0
        self.told: list[str] = []

    def at(self, done: int, total: int | None) -> None:
        self.starts.append((done, total))
        self.done = done

    def move(self, count: int) -> None:
        self.done += count

    def trying_again(self, text: str) -> None:
        self.told.append(text)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PAUSES", (0.0, 0.0))
    with serve(FakeHub(plain={PATH: CONTENT})) as made:
        yield made


def remote(server: FakeHub, folder: Path, digest: str = "", path: str = PATH) -> RemoteFile:
    digest = digest or f"md5:{hashlib.md5(CONTENT).hexdigest()}"
    return RemoteFile("net", server.url + path, folder / "net.onnx", None, digest)


def fetch(file: RemoteFile) -> Meter:
    meter = Meter()
    with hub.explained(MODEL):
        download.download(file, meter, threading.Event())
    return meter


def test_a_whole_file(server, tmp_path):
    meter = fetch(remote(server, tmp_path))
    assert (tmp_path / "net.onnx").read_bytes() == CONTENT
    assert (meter.starts, meter.done) == ([(0, len(CONTENT))], len(CONTENT))
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_a_cut_is_resumed_and_the_meter_follows(server, tmp_path):
    server.cuts[PATH] = [300_000, 1]
    meter = fetch(remote(server, tmp_path))
    assert (tmp_path / "net.onnx").read_bytes() == CONTENT
    assert [start for start, _ in meter.starts] == [0, 300_000, 300_001]
    assert [total for _, total in meter.starts] == [len(CONTENT)] * 3
    assert meter.done == len(CONTENT)


def test_a_connection_that_brings_nothing_is_given_up_and_the_rest_kept(server, tmp_path):
    server.cuts[PATH] = [300_000, 0, 0, 0, 0]
    with pytest.raises(DownloadError, match="broke off") as caught:
        fetch(remote(server, tmp_path))
    assert "goes on where it was" in caught.value.hint
    assert (tmp_path / "net.onnx.part").stat().st_size == 300_000
    server.cuts.clear()
    assert fetch(remote(server, tmp_path)).starts == [(300_000, len(CONTENT))]


def test_a_part_that_is_whole_is_only_verified(server, tmp_path):
    (tmp_path / "net.onnx.part").write_bytes(CONTENT)
    fetch(remote(server, tmp_path))
    assert (tmp_path / "net.onnx").read_bytes() == CONTENT


def test_a_part_that_is_too_long_begins_again(server, tmp_path):
    (tmp_path / "net.onnx.part").write_bytes(CONTENT + b"more")
    fetch(remote(server, tmp_path))
    assert (tmp_path / "net.onnx").read_bytes() == CONTENT


@pytest.mark.parametrize("shift", [100, None])
def test_an_answer_of_other_bytes_than_asked_for_is_not_joined(shift, server, tmp_path):
    """Nobody states a hash here, so it would stay unnoticed."""
    server.cuts[PATH] = [300_000]
    server.shifted[PATH] = shift
    file = RemoteFile("net", server.url + PATH, tmp_path / "net.onnx", None, "")
    fetch(file)
    assert (tmp_path / "net.onnx").read_bytes() == CONTENT
    assert [request.range for request in server.asked(PATH)] == ["", "bytes=300000-", ""]


def test_a_file_that_was_replaced_meanwhile_is_not_joined_to_its_older_version(server, tmp_path):
    """Also by a later process: the first one keeps what the server called the version."""
    server.cuts[PATH] = [300_000, 0, 0, 0]
    file = RemoteFile("net", server.url + PATH, tmp_path / "net.onnx", None, "")
    with pytest.raises(DownloadError, match="broke off"):
        fetch(file)
    server.cuts.clear()
    server.plain[PATH] = newer = CONTENT[::-1]
    fetch(file)
    assert (tmp_path / "net.onnx").read_bytes() == newer
    assert server.asked(PATH)[-1].if_range == f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a right there")
@pytest.mark.parametrize("hard", [False, True])
def test_a_part_that_is_a_link_is_not_written_through(hard, server, tmp_path):
    """A cache may be shared, and somebody have linked a file of ours there."""
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    part = tmp_path / "net.onnx.part"
    if hard:
        part.hardlink_to(mine)
    else:
        part.symlink_to(mine)
    with pytest.raises(DownloadError, match="link"):
        fetch(remote(server, tmp_path))
    assert mine.read_bytes() == b"mine"


def test_a_wrong_hash_leaves_nothing(server, tmp_path):
    with pytest.raises(DownloadError, match="another hash"):
        fetch(remote(server, tmp_path, "md5:" + "0" * 32))
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


@pytest.mark.parametrize(
    ("status", "says"), [(404, "does not exist"), (403, "refused"), (401, "refused"), (500, "500")]
)
def test_what_the_server_answers_is_said(status, says, server, tmp_path):
    server.statuses[PATH] = [status] * 5
    with pytest.raises(DownloadError, match=says):
        fetch(remote(server, tmp_path))


@pytest.mark.parametrize("status", [404, 403, 401])
def test_the_way_out_is_that_of_a_plain_url_and_not_of_the_hub(status, server, tmp_path):
    server.statuses[PATH] = [status]
    with pytest.raises(DownloadError) as caught:
        fetch(remote(server, tmp_path))
    assert str(catalogue.own_folder(MODEL)) in caught.value.hint
    for word in ("HF_", "login", "private"):
        assert word not in str(caught.value), word


def test_it_is_said_that_a_file_is_asked_for_again_and_why(server, tmp_path):
    server.cuts[PATH] = [300_000]
    server.statuses[PATH] = [503]
    meter = fetch(remote(server, tmp_path))
    busy, cut = meter.told
    assert busy == f"{server.url} does not answer as it should (status 503): trying again"
    assert "300000 bytes" in cut


def test_a_client_that_another_thread_has_closed_is_opened_again(server, tmp_path, monkeypatch):
    """As the client's library does when that thread's connection fails: it has one for all."""
    import huggingface_hub

    closed = huggingface_hub.get_session()
    huggingface_hub.close_session()
    found = iter([closed, None])
    real = huggingface_hub.get_session
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: next(found, real()))
    fetch(remote(server, tmp_path))
    assert (tmp_path / "net.onnx").read_bytes() == CONTENT


def test_a_look_up_is_made_again_where_its_client_was_closed():
    import huggingface_hub

    closed = huggingface_hub.get_session()
    huggingface_hub.close_session()
    clients = [closed, None]

    def look_up() -> str:
        client = clients.pop(0) if clients else "open"
        return client if isinstance(client, str) else str(client.get("http://127.0.0.1:9"))

    assert network.with_client(look_up) == "open"
    with pytest.raises(AttributeError, match="'int' object"):
        network.with_client(lambda: (1).get)  # type: ignore[attr-defined]


def test_two_at_once_download_once(server, tmp_path):
    server.stall[PATH] = 1000
    first = threading.Thread(target=fetch, args=(remote(server, tmp_path),))
    second = threading.Thread(target=fetch, args=(remote(server, tmp_path),))
    first.start()
    assert server.stalled.wait(PATIENCE)
    second.start()
    server.resume.set()
    first.join(PATIENCE)
    second.join(PATIENCE)
    assert (tmp_path / "net.onnx").read_bytes() == CONTENT
    assert len(server.asked(PATH)) == 1


def test_a_stop_ends_it_and_keeps_the_rest(server, tmp_path):
    server.stall[PATH] = 1000
    stop, ended = threading.Event(), []

    def work() -> None:
        try:
            download.download(remote(server, tmp_path), Meter(), stop)
        except DownloadError as error:
            ended.append(error.message)

    thread = threading.Thread(target=work)
    thread.start()
    assert server.stalled.wait(PATIENCE)
    stop.set()
    server.resume.set()
    thread.join(PATIENCE)
    assert ended == ["stopped"]
    assert not (tmp_path / "net.onnx").exists()


def test_a_full_disk_is_named(server, tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DownloadError, match="No space left") as caught:
        fetch(remote(server, tmp_path))
    assert "XDG_CACHE_HOME" in caught.value.hint, "which moves what a URL brings"


@pytest.mark.parametrize("kind", ["sha256", "md5", "git-sha1"])
def test_the_three_kinds_of_hash(kind, tmp_path):
    (tmp_path / "a").write_bytes(b"hello\n")
    known = {
        "sha256": "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        "md5": "b1946ac92492d2347c6235b4d2611184",
        "git-sha1": "ce013625030ba8dba906f756967f9e9ca394464a",  # git hash-object
    }
    assert download.file_digest(tmp_path / "a", kind) == f"{kind}:{known[kind]}"


class Watcher:
    """`pull.PullObserver` that remembers."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.size = 0

    def plan(self, size: int) -> None:
        self.size = size

    def meter(self, label: str) -> Meter:
        return Meter()

    def trying_again(self, text: str) -> None:
        pass

    def file_done(self, file: RemoteFile) -> None:
        pass

    def model_done(self, result: Result) -> None:
        self.results.append(result)


def test_a_model_with_a_url_goes_to_the_programs_own_cache(server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    digest = f"md5:{hashlib.md5(CONTENT).hexdigest()}"
    model = MODEL.model_copy(update={"url": server.url + PATH, "hashes": {"net.onnx": digest}})
    monkeypatch.setattr(catalogue, "catalogue", lambda: {"net": model})
    server.cuts[PATH] = [300_000]
    watcher = Watcher()
    [result] = pull([model], watcher, workers=2)
    assert result.state == "pulled"
    assert result.folder == tmp_path / "kiss3d-orchestrate/models/net"
    assert catalogue.find_file("net").read_bytes() == CONTENT
    assert watcher.results == [result]
    assert watcher.size == model.size
    assert verify(model).verdict == "ok"
    assert [one.state for one in pull([model], Watcher(), workers=2)] == ["here"]
