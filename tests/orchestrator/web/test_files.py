"""What the page serves of runs, and what it does not, whatever it is called."""

from __future__ import annotations

import io
import os
import zipfile

import pytest
from starlette.testclient import TestClient

from devtools.page_runs import TRAPS, page_run
from orchestrator.web.files import Files, compare_url, run_url
from orchestrator.web.gallery import card, cards, is_run, newest


@pytest.fixture
def root(tmp_path):
    made = tmp_path / "outputs"
    made.mkdir()
    for name in ("one", "two"):
        page_run(made / name, colours="texture").save()
    (tmp_path / "secret.png").write_bytes(b"secret")
    return made


@pytest.fixture
def client(root):
    return TestClient(Files(root))


def test_a_mesh_is_saved_as_it_is(client, root):
    answer = client.get(run_url("one", "result/mesh.glb"))
    assert answer.status_code == 200
    assert answer.content == (root / "one/result/mesh.glb").read_bytes()
    assert "one-mesh.glb" in answer.headers["content-disposition"]
    assert answer.headers["content-disposition"].startswith("attachment")


def test_a_result_is_saved_as_one_archive(client, root):
    (root / "one/result/.hidden.png").write_bytes(b"secret")
    answer = client.get(run_url("one", "all.zip"))
    assert "one.zip" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert ".hidden.png" not in archive.namelist()
        assert archive.read("mesh.glb") == (root / "one/result/mesh.glb").read_bytes()


def test_the_picture_that_a_run_was_given_is_shown(client, root):
    answer = client.get(run_url("one", "input"))
    assert answer.content == (root / "one/input.png").read_bytes()
    assert answer.headers["content-type"] == "image/png"


def test_a_run_of_a_batch_is_found_below_it(client, root):
    (root / "batch").mkdir()
    page_run(root / "batch" / "one").save()
    assert client.get(run_url("batch/one", "result/mesh.glb")).status_code == 200
    assert "batch/one" in newest(root, 10)


@pytest.mark.parametrize(
    "path",
    [
        "runs/../secret.png",
        "runs/%2e%2e/secret.png",
        "runs/one/../../secret.png",
        "runs/one/result/../../../secret.png",
        "runs/one/result/..%2f..%2f..%2fsecret.png",
        "runs/one/result/%2fetc%2fpasswd",
        "runs//etc/result/passwd",
        "runs/one/input.png",
        "runs/one/run.json",
        "runs/one/events.jsonl",
        "runs/pdf/input",
        "runs/one/isomer/attempt-1.log",
        "runs/one/result/",
        "runs/one/result/.hidden.png",
        "runs/one/result/notes.txt",
        "runs/one/result/link.png",
        "runs/one/result/folder.png",
        "runs/linked/result/mesh.glb",
        "runs/nothing/result/mesh.glb",
        "runs/plain/result/mesh.glb",
        "runs/odd/result/mesh.glb",
        "compare?run=one&run=../outputs/two",
        "compare?run=one",
        "compare",
        "runs/one/result/mesh.glb%00.png",
        "runs/" + "a/" * 500 + "result/mesh.glb",
    ],
)
def test_nothing_else_is_served(path, client, root, tmp_path):
    result = root / "one/result"
    (result / "link.png").symlink_to(tmp_path / "secret.png")
    (result / "folder.png").mkdir()
    (result / "notes.txt").write_text("secret")
    (result / ".hidden.png").write_bytes(b"secret")
    page_run(tmp_path / "elsewhere").save()
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "plain/result").mkdir(parents=True)
    (root / "plain/result/mesh.glb").write_bytes(b"secret")
    odd = page_run(root / "odd")
    odd.save()
    os.rename(root / "odd/result", tmp_path / "moved")
    (root / "odd/result").symlink_to(tmp_path / "moved")
    page_run(root / "pdf").save()
    (root / "pdf/input.png").write_bytes(b"%PDF-1.7 secret")
    answer = client.get(f"/kiss3d/{path}", follow_redirects=False)
    assert answer.status_code == 404
    assert b"secret" not in answer.content


def test_pages_come_in_a_sandbox_without_a_network(client):
    for address in (
        run_url("one", "view"),
        run_url("one", "input"),
        compare_url(["one", "two"]),
    ):
        answer = client.get(address)
        assert answer.status_code == 200, address
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("sandbox allow-scripts")
        assert "allow-same-origin" not in policy
        assert "default-src 'none'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_nothing_is_changed_through_an_address(client, root):
    for method in (client.post, client.put, client.delete):
        assert method(run_url("one", "input")).status_code == 405
    assert (root / "one/run.json").is_file()


def test_a_damaged_run_costs_itself_alone(client, root):
    (root / "two/run.json").write_text("{")
    assert client.get(run_url("two", "view")).status_code == 404
    assert [one.name for one in cards(root, 10)] == ["one"]
    (root / "one/result/mesh.glb").write_bytes(b"no mesh")
    assert client.get(run_url("one", "view")).status_code == 200


def test_names_with_signs_reach_their_own_run(client, root):
    for name in ('a"b', "a&b=c", "a b", "ä漢", "a%zz", "a#?"):
        page_run(root / name).save()
        assert is_run(root, name)
        assert client.get(run_url(name, "result/mesh.glb")).status_code == 200, name
        assert client.get(compare_url([name, "one"])).status_code == 200, name


def test_what_others_wrote_is_text_in_the_gallery(root):
    from orchestrator.web import shown

    for number, trap in enumerate(TRAPS):
        page_run(root / f"trap{number}", source=f"/x/{trap}", error=trap).save()
    html = shown.gallery_html(cards(root, 20), {})
    assert "<script" not in html
    assert "onerror=" not in html.replace("onerror=&#34;", "")
    assert card(root, "../one") is None


def test_a_run_shows_what_its_stages_warned_of_and_what_it_lacks_as_text(root):
    from orchestrator.web import shown

    trap = TRAPS[0]
    run = page_run(root / "warned")
    run.manifest.nodes["isomer"].warnings = [f"thin parts {trap}"]
    run.manifest.nodes["isomer"].degraded = "fewer steps"
    run.save()
    html = shown.job_html("warned", None, card(root, "warned"), 0)
    assert "<script" not in html
    assert "thin parts &lt;script&gt;" in html
    assert "fewer steps" in html
    assert "thin parts" not in shown.job_html("one", None, card(root, "one"), 0)


def test_a_killed_servers_run_shows_its_stages_and_one_that_had_not_begun_says_so(root):
    from orchestrator.web import shown

    run = page_run(root / "killed", state="running")
    run.manifest.nodes["isomer"].state = "running"
    run.save()
    found = card(root, "killed")
    assert found.state == "interrupted"
    assert [(row.node, row.state) for row in found.rows] == [
        ("multiview", "done"),
        ("isomer", "interrupted"),
    ]
    html = shown.job_html("killed", None, found, 0)
    assert "<table" in html
    assert "“Go on with it”" in html
    run.manifest.nodes["isomer"].state = run.manifest.nodes["multiview"].state = "pending"
    run.save()
    html = shown.job_html("killed", None, card(root, "killed"), 0)
    assert "no stage had begun" in html
    assert "<table" not in html


def test_a_message_names_an_upload_without_this_machines_folders():
    from orchestrator.web import shown

    path = f"/tmp/.kiss3d-private-x1_y/uploads/{'0a' * 32}/my robot.png"
    assert shown.plainly(f"{path} is a PDF document") == "my robot.png is a PDF document"
    assert shown.plainly("/data/x.png is gone") == "/data/x.png is gone"


def test_a_message_names_no_option_of_the_command_line():
    from orchestrator.web import shown

    error = "--text: profile sketch has no use for words\n  -> leave it out"
    assert shown.plainly(error) == "words: profile sketch has no use for words\n  -> leave it out"
    hint = "--device cpu computes there what has a rung for it, slowly; sketch needs no GPU"
    assert shown.hinted(hint) == "sketch needs no GPU"
    assert shown.hinted("`resume` goes on with it; kiss3d-orchestrate resume /x") == ""
    fetch = "kiss3d-orchestrate weights fetch --profile full"
    assert shown.hinted(fetch) == fetch
    assert "--device" not in shown.plainly("none may be used (--device cpu)")
