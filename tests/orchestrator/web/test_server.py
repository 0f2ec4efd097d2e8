"""The real server: what programs get of it, by gradio_client, plain HTTP and MCP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path

import httpx
import pytest

from devtools.fakes.tools import ROOT, leftovers
from devtools.patience import PATIENCE
from devtools.web_server import Server, web_server
from orchestrator.web.calls import ARGUMENTS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="ends it by signals")
ROBOT = ROOT / "examples" / "robot.png"
ANN = ("ann", "secret")


@pytest.fixture(scope="module")
def open_to_programs(tmp_path_factory, fake_package):
    folder = tmp_path_factory.mktemp("site")
    with web_server(folder, "--api", "--mcp", "--max-upload", 1) as server:
        yield server


@pytest.fixture(scope="module")
def for_users(tmp_path_factory, fake_package):
    folder = tmp_path_factory.mktemp("users")
    (folder / "tmp").mkdir()
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", str(folder / "tmp"))
            server = stack.enter_context(web_server(folder, "--mcp", "--auth", ":".join(ANN)))
        yield server


def client(server: Server, **options):
    from gradio_client import Client

    return Client(server.address, verbose=False, download_files=False, **options)


@pytest.mark.slow
def test_a_program_makes_a_mesh_by_gradio_client(open_to_programs):
    from gradio_client import handle_file

    server = open_to_programs
    told = client(server).predict(
        picture=handle_file(ROBOT),
        text="",
        profile="sketch",
        seed="3",
        fast=False,
        api_name="/make_mesh",
    )
    assert told["state"] == "done", told
    mesh = httpx.get(server.address + told["files"]["mesh.glb"]).content
    assert mesh == (server.outputs / told["run"] / "result/mesh.glb").read_bytes()
    listed = client(server).predict(api_name="/runs")
    assert told["run"] in [row["run"] for row in listed]
    assert leftovers(server.outputs) == []


def test_a_run_is_submitted_looked_at_and_cancelled(open_to_programs):
    from gradio_client import handle_file

    program = client(open_to_programs)
    told = program.predict(handle_file(ROBOT), "", "sketch", "", False, api_name="/submit")
    assert told["state"] in ("waiting", "running")
    assert program.predict(told["run"], api_name="/cancel")["run"] == told["run"]
    seen = told
    while seen["state"] in ("waiting", "running"):
        seen = program.predict(told["run"], api_name="/status")
    assert seen["state"] == "interrupted"
    assert program.predict("../outputs", api_name="/status")["state"] == "unknown"


def test_plain_http_puts_a_call_and_reads_its_answer(open_to_programs):
    address = f"{open_to_programs.address}/gradio_api/call/status"
    event = httpx.post(address, json={"data": ["nothing"]}).json()["event_id"]
    answer = httpx.get(f"{address}/{event}", timeout=PATIENCE).text
    assert "there is no such run" in answer


@pytest.mark.parametrize(
    ("name", "values", "status", "said"),
    [
        ("submit", [], 422, "picture, text, profile, seed, fast, mesh are missing"),
        ("submit", [None, "", "sketch", "", False], 422, "; mesh is missing"),
        ("cancel", [], 422, "; run is missing"),
        ("submti", [], 404, 'no function "submti"; did you mean "submit"? known: make_mesh, '),
    ],
)
def test_a_call_that_lacks_something_is_told_what(name, values, status, said, open_to_programs):
    address = f"{open_to_programs.address}/gradio_api/call/{name}"
    answer = httpx.post(address, json={"data": values})
    assert answer.status_code == status
    assert said in answer.json()["detail"]


def test_what_calls_are_held_to_is_what_the_functions_take(open_to_programs):
    info = httpx.get(f"{open_to_programs.address}/gradio_api/info").json()["named_endpoints"]
    taken = {
        name.removeprefix("/"): tuple(one["parameter_name"] for one in function["parameters"])
        for name, function in info.items()
    }
    assert taken == ARGUMENTS


def test_what_cannot_be_done_is_told_to_a_program(open_to_programs):
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError, match='unknown profile "sketsch"'):
        client(open_to_programs).predict(
            handle_file(ROBOT), "", "sketsch", "", False, api_name="/submit"
        )


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "{outputs}/x/run.json", "{outputs}/../secret.txt", "secret.txt", "%2e"]
)
def test_no_file_of_the_machine_is_served_by_gradio(path, open_to_programs):
    server = open_to_programs
    (server.outputs.parent / "secret.txt").write_text("very private")
    (server.outputs / "x").mkdir(exist_ok=True, parents=True)
    (server.outputs / "x/run.json").write_text("{}")
    told = path.format(outputs=server.outputs)
    for address in (f"/gradio_api/file={told}", f"/file={told}", f"/gradio_api/file/{told}"):
        answer = httpx.get(server.address + address)
        assert answer.status_code in (403, 404), address
        assert "very private" not in answer.text


def test_a_program_cannot_name_a_file_of_the_machine_as_its_picture(open_to_programs, tmp_path):
    """As a client would that sends a path in place of what it uploaded."""
    (open_to_programs.outputs.parent / "own.png").write_bytes(ROBOT.read_bytes())
    for path in ("/etc/passwd", str(open_to_programs.outputs.parent / "own.png")):
        picture = {"path": path, "meta": {"_type": "gradio.FileData"}}
        rest = ["", "sketch", "", False, None]
        address = f"{open_to_programs.address}/gradio_api/call/submit"
        event = httpx.post(address, json={"data": [picture, *rest]}).json()
        answer = httpx.get(f"{address}/{event['event_id']}", timeout=PATIENCE).text
        assert "event: error" in answer
        assert "was not uploaded here" in answer
        assert "Traceback" not in answer
    assert not list(open_to_programs.outputs.glob("own*"))
    assert not list(open_to_programs.outputs.glob("passwd*"))


def test_a_large_file_is_not_taken(open_to_programs):
    address = f"{open_to_programs.address}/gradio_api/upload"
    large = {"files": ("large.png", b"x" * (3 << 20))}
    assert httpx.post(address, files=large).status_code == 413
    assert httpx.post(address, files={"files": ("s.png", b"x")}).status_code == 200


@pytest.mark.parametrize(
    "name", ["../../../../tmp/out.png", "/etc/out.png", "..\\..\\out.png", "a\0b.png", "." * 300]
)
def test_an_upload_stays_in_its_folder_whatever_it_is_called(name, open_to_programs):
    address = f"{open_to_programs.address}/gradio_api/upload"
    answer = httpx.post(address, files={"files": (name, b"x")})
    if answer.status_code == 200:
        [path] = answer.json()
        assert ".kiss3d-private-" in path
        assert ".." not in Path(path).parts
    assert not Path("/etc/out.png").exists()
    assert not Path("/tmp/out.png").exists()


async def _by_mcp(address: str, headers: dict[str, str], call):
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async with (
        httpx.AsyncClient(headers=headers, timeout=PATIENCE) as by,
        streamable_http_client(f"{address}/gradio_api/mcp/", http_client=by) as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        return await call(session)


def test_an_mcp_client_sees_the_tools_and_calls_one(open_to_programs):
    async def call(session):
        tools = await session.list_tools()
        return tools.tools, await session.call_tool("status", {"run": "nothing"})

    tools, answer = asyncio.run(_by_mcp(open_to_programs.address, {}, call))
    assert {"make_mesh", "submit", "status", "cancel", "resume", "runs"} == {t.name for t in tools}
    [make] = [tool for tool in tools if tool.name == "make_mesh"]
    assert "3D mesh" in make.description
    assert "there is no such run" in answer.content[0].text


@pytest.mark.slow
def test_an_mcp_client_makes_a_mesh(open_to_programs):
    import base64

    address = open_to_programs.address
    picture = "data:image/png;base64," + base64.b64encode(ROBOT.read_bytes()).decode()

    async def call(session):
        return await session.call_tool("make_mesh", {"picture": picture, "profile": "sketch"})

    answer = asyncio.run(_by_mcp(address, {}, call))
    told = json.loads(answer.content[0].text.replace("'", '"'))
    assert told["state"] == "done", told
    assert (open_to_programs.outputs / told["run"] / "result/mesh.glb").is_file()


def test_with_users_pages_files_and_tools_want_a_password(for_users):
    address = for_users.address
    for path in ("/", "/config", "/gradio_api/mcp/", "/kiss3d/compare", "/gradio_api/queue/data"):
        assert httpx.get(address + path).status_code == 401, path
        assert httpx.get(address + path, auth=("ann", "wrong")).status_code == 401, path
    assert httpx.get(f"{address}/", auth=ANN).status_code == 200
    assert httpx.get(f"{address}/gradio_api/info", auth=ANN).status_code == 404

    async def call(session):
        return await session.call_tool("status", {"run": "nothing"})

    import base64

    told = base64.b64encode(":".join(ANN).encode()).decode()
    answer = asyncio.run(_by_mcp(address, {"Authorization": f"Basic {told}"}, call))
    assert "there is no such run" in answer.content[0].text


def test_it_ends_on_ctrl_c_and_leaves_nothing(for_users):
    """The last of this server's tests: it takes longer to start than any of them."""
    temporary = for_users.outputs.with_name("tmp")
    assert httpx.get(for_users.address, auth=ANN).status_code == 200
    assert [*temporary.glob(".kiss3d-private-*/uploads")]
    assert for_users.stop() == 130
    assert leftovers(for_users.outputs) == []
    assert not list(temporary.iterdir())


@pytest.mark.slow
def test_the_uploads_of_a_killed_server_go_with_the_next_start(tmp_path, monkeypatch):
    import signal

    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def uploads():
        return list(tmp_path.glob(".kiss3d-private-*/uploads"))

    with web_server(tmp_path) as server:
        assert len(uploads()) == 1
        server.stop(signal.SIGKILL)
    [left] = uploads()
    with web_server(tmp_path):
        assert not left.exists()
        assert len(uploads()) == 1


def test_a_taken_port_is_told_before_anything_starts(open_to_programs, kiss3d):
    port = open_to_programs.address.rpartition(":")[2]
    done = kiss3d("web", "--port", port)
    assert done.returncode == 2
    assert "--port another one" in done.stderr
