"""Who is let in to the page, and with how much."""

from __future__ import annotations

import base64

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from orchestrator.web.guard import INNER, UPLOAD, WORDS_MIB, Guard
from orchestrator.web.options import WebOptions
from orchestrator.web.uploads import Uploads


async def app(scope, receive, send):
    body = await Request(scope, receive).body() if scope["type"] == "http" else b""
    await PlainTextResponse(f"gradio {len(body)}")(scope, receive, send)


@pytest.fixture
def visit(tmp_path):
    def make(name="127.0.0.1:7860", **options):
        uploads = Uploads(tmp_path / "uploads", 1 << 20)
        guard = Guard(app, WebOptions(tmp_path, **options), uploads, "inner word")
        return TestClient(guard, base_url=f"http://{name}")

    return make


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost:9", "[::1]:7860"])
def test_this_machines_names_are_answered_to(host, visit):
    assert visit(host).get("/").text == "gradio 0"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "192.168.0.7:7860"])
def test_a_local_page_has_no_other_names(host, visit):
    assert visit(host).get("/").status_code == 403
    assert visit(host, host="0.0.0.0").get("/").status_code == 200


def test_another_website_cannot_post(visit):
    ours, theirs = {"origin": "http://127.0.0.1:7860"}, {"origin": "https://evil.example"}
    assert visit().post("/gradio_api/queue/join", headers=ours).status_code == 200
    for options in ({}, {"host": "0.0.0.0"}):
        client = visit(**options)
        for origin in (theirs, {"origin": "null"}):
            assert client.post("/gradio_api/queue/join", headers=origin).status_code == 403
    assert visit().get("/", headers=theirs).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/config",
        "/gradio_api/queue/join",
        "/gradio_api/mcp/",
        "/gradio_api/call/runs",
        "/kiss3d/runs/a/result/mesh.glb",
        "/assets/index.js",
        "/gradio_api/file=/etc/passwd",
    ],
)
def test_with_users_nothing_is_open_to_others(path, visit):
    client = visit(auth=(("ann", "pass:word"), ("bob", "é")), api=True, mcp=True)
    refused = client.get(path)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic")
    for told in (("ann", "pass:word"), ("bob", "é".encode())):
        assert client.get(path, auth=told).status_code != 401
    for wrong in (("ann", "pass"), ("bob", ""), ("", ""), ("ann", "é")):
        assert client.get(path, auth=wrong).status_code == 401


@pytest.mark.parametrize(
    "said", ["", "Basic", "Basic !", "Bearer abc", "Basic " + base64.b64encode(b"\xff").decode()]
)
def test_what_is_no_password_opens_nothing(said, visit):
    client = visit(auth=(("ann", "x"),))
    assert client.get("/", headers={"authorization": said}).status_code == 401
    assert client.get("/", headers={INNER: "inner"}).status_code == 401
    assert client.get("/", headers={INNER: "inner word"}).status_code == 200


def test_programs_come_in_only_where_that_was_asked_for(visit):
    for path in ("/gradio_api/info", "/gradio_api/call/runs", "/gradio_api/run/runs"):
        assert visit().get(path).status_code == 404
        assert visit(api=True).get(path).status_code == 200
        assert visit(mcp=True).get(path).status_code == 404
    assert visit(api=True).get("/gradio_api/mcp/").status_code == 404
    assert visit(mcp=True).get("/gradio_api/mcp/").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=http://192.168.0.1/",
        "/gradio_api/file=https://example.org/x.png",
        "/gradio_api/proxy=https://x.hf.space/file=a",
        "/gradio_api/process_recording",
        "/gradio_api/vibe-edit",
        "/monitoring",
        "/gradio_api/custom_component/1/client/component/x",
    ],
)
def test_what_the_page_does_not_use_is_closed(path, visit):
    assert visit(api=True, mcp=True).get(path).status_code == 403


def test_no_more_is_taken_than_was_said(visit):
    client = visit(upload_mib=1)
    assert client.post(UPLOAD, content=b"x" * (1 << 20)).status_code == 200
    assert client.post(UPLOAD, content=b"x" * (3 << 20)).status_code == 413
    pieces = (b"x" * (1 << 20) for _ in range(4))  # nobody says how much it will be
    assert client.post(UPLOAD, content=pieces).status_code == 413
    words = b"x" * ((WORDS_MIB << 20) + 1)
    assert client.post("/gradio_api/queue/join", content=words).status_code == 413


def test_every_answer_forbids_what_comes_from_elsewhere(visit):
    headers = visit().get("/").headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"


def test_uploads_take_no_more_than_their_room(tmp_path, monkeypatch):
    from orchestrator.web import uploads

    monkeypatch.setattr(uploads, "YOUNG_SECONDS", -1.0)
    kept = Uploads(tmp_path, 1000)
    for number in range(40):
        (tmp_path / f"{number:02}").write_bytes(b"x" * 1000)
        kept.make_room()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 17_000
    assert (tmp_path / "39").exists()
