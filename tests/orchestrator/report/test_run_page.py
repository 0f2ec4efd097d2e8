"""result/report.html: what is on it, that all of it is text, and that it asks nobody for anything.

What a browser makes of it: tests/browser.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from devtools.page_runs import ACTING, TRAPS, Page, page_run
from orchestrator.pipeline.layers import load
from orchestrator.record.manifest import AttemptRow, FileRecord, InputRecord, NodeRecord
from orchestrator.record.run_directory import RESULT, RunDirectory
from orchestrator.report import facts, run_page, viewer
from orchestrator.report.run_page import write_report
from stages.weights.catalogue import catalogue

GIB = 1 << 30


def page_of(run: RunDirectory) -> Page:
    write_report(run)
    return Page((run.path / RESULT / "report.html").read_bytes())


def policy_of(page: Page) -> dict[str, str]:
    (content,) = (m["content"] for m in page.all("meta") if "http-equiv" in m)
    return dict(rule.strip().split(" ", 1) for rule in content.split(";"))


def test_a_page_shows_what_was_made_and_how(tmp_path):
    settings = load("sketch", sets=["isomer.stage2_steps=3", "seed=7"])
    run = page_run(
        tmp_path / "run",
        profile="sketch",
        settings=settings.profile.model_dump(mode="json"),
        sources=dict(settings.sources),
        wall_seconds=12.5,
        machine={"python": "3.99", "packages": {"torch": "9.9.9"}, "gpus": [{"name": "A card"}]},
    )
    page = page_of(run)
    for text in ("ball.png", "Views", "Normals", "Mesh", "2.5 s in its stages", "1,280 faces"):
        assert text in page.text
    assert len(page.all("img")) == 1 + 4 + 4 + 5, "the input, views, normals, mesh"
    assert len(page.all("iframe")) == 1
    assert "isomer.params.stage2_steps" in page.text
    assert "--set isomer.stage2_steps=3" in page.text, "the origin"
    assert "isomer.params.smooth" in page.text
    assert "preprocess.params.alpha_threshold" in page.text, "defaults too"
    assert "9.9.9" in page.text
    assert "A card" in page.text
    command = "kiss3d-orchestrate run /pictures/ball.png --profile sketch"
    assert f"{command} --set seed=7 --set isomer.stage2_steps=3\n" in page.text


def test_each_try_of_a_node_is_a_row_with_what_it_took(tmp_path):
    run = page_run(tmp_path / "run")
    failed = AttemptRow(
        rung=0,
        device="NVIDIA H",
        dtype="bfloat16",
        outcome="out_of_memory",
        message="no room left",
        hint="a smaller budget helps",
        move="next rung: streamed",
        vram={"verdict": "released", "peak": 3 * GIB},
        predicted={"vram": 2 * GIB},
    )
    kept = AttemptRow(rung=1, device="cpu", outcome="done", seconds=8.5, vram={"verdict": "held"})
    node = run.manifest.nodes["isomer"]
    node.attempts, node.degraded, node.warnings = [failed, kept], "fewer steps", ["thin walls"]
    run.manifest.nodes["flux"] = NodeRecord(state="done", cached_from="/outputs/earlier")
    run.manifest.nodes["last"] = NodeRecord(state="skipped", reason="needs flux, which failed")
    text = page_of(run).text
    for said in (
        *("3.00 GiB", "2.00 GiB", "released", "held", "8.50", "NVIDIA H bfloat16"),
        *("no room left", "a smaller budget helps", "next rung: streamed"),
        *("fewer steps", "why: attempt 1 on NVIDIA H bfloat16: out_of_memory: no room left"),
        *("thin walls", "taken from /outputs/earlier", "needs flux, which failed"),
    ):
        assert said in text


def test_weights_come_with_their_licences(tmp_path):
    name, model = next((n, m) for n, m in catalogue().items() if m.repo)
    run = page_run(tmp_path / "run")
    weights = [{"name": name, "place": "/w", "revision": "abc123"}, {"name": "own", "place": "/o"}]
    node = run.manifest.nodes["isomer"].model_dump() | {"weights": weights}
    run.manifest.nodes["isomer"] = NodeRecord.model_validate(node)
    page = page_of(run)
    for said in (name, model.licence, "abc123", "not in the catalogue"):
        assert said in page.text
    assert model.page in page.addresses


def test_the_network_that_comes_along_is_named_without_its_folder(tmp_path):
    run = page_run(tmp_path / "run")
    weights = [{"name": "/home/me/stages/sketch_net.safetensors", "place": "/home/me/w"}]
    node = run.manifest.nodes["isomer"].model_dump() | {"weights": weights}
    run.manifest.nodes["isomer"] = NodeRecord.model_validate(node)
    text = page_of(run).text
    assert "comes with the program" in text
    assert "sketch_net.safetensors" in text
    assert "/home/me" not in text


def everywhere(run: RunDirectory, text: str) -> None:
    """Put a text where others choose it: names, captions, logs, messages, settings."""
    manifest = run.manifest
    manifest.error = manifest.profile = manifest.profile_reason = manifest.version = text
    manifest.settings = {"nodes": {"multiview": {"params": {"text": text}}}, text: text}
    manifest.sources = {"nodes.multiview.params.text": f"--set multiview.text={text}"}
    manifest.machine = {"python": text, "packages": {text: text}, "gpus": [{"name": text}]}
    node = manifest.nodes["isomer"]
    node.degraded, node.warnings, node.reason = text, [text], text
    log = "attempt-1.log"
    run.inside.write(f"isomer/{log}", text.encode(errors="surrogatepass"))
    node.attempts = [
        AttemptRow(rung=0, device=text, dtype=text, params={text: text}, log=log, outcome=text)
    ]
    node.attempts[0].message = node.attempts[0].hint = node.attempts[0].move = text
    run.inside.write("multiview/caption.txt", text.encode(errors="surrogatepass"))
    manifest.nodes["words"] = NodeRecord(
        state="done",
        stage="caption",
        cached_from=text,
        artifacts={"caption": [FileRecord(file="caption.txt", size=1)]},
    )
    run.inside.make_folder("words")
    run.inside.write("words/caption.txt", text.encode(errors="surrogatepass"))


@pytest.mark.parametrize("trap", TRAPS)
def test_what_others_wrote_is_text(trap, tmp_path):
    run = page_run(tmp_path / "run", source=f"/pictures/{trap.replace('/', '|')}.png")
    plain = page_of(page_run(tmp_path / "plain"))
    everywhere(run, trap)
    page = page_of(run)
    assert page.text.count(trap) >= 14
    assert f"{trap.replace('/', '|')}.png" in page.text
    allowed = {tag for tag, _ in plain.elements} | {"h2", "p", "li", "ul", "b", "br", "pre"}
    assert {tag for tag, _ in page.elements} <= allowed | {"details", "summary", "span"}
    assert page.all("script") == []
    names = {name for _, attributes in page.elements for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    assert page.addresses == plain.addresses


def test_characters_that_act_are_spelled_out(tmp_path):
    run = page_run(tmp_path / "run", source=f"/pictures/{ACTING}.png")
    everywhere(run, ACTING)
    page = page_of(run)
    assert r"\x1b]0;owned\x07\u202etxt.exe" in page.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e\ud800-\udfff]", page.text)


def test_a_page_asks_nobody_for_anything(tmp_path):
    page = page_of(page_run(tmp_path / "run"))
    assert page.addresses == {"mesh.glb", "../run.json", "../events.jsonl"}
    policy = policy_of(page)
    assert policy["default-src"] == "'none'"
    assert set(policy["script-src"].split()) == set(_scripts_of(page))
    for kind in ("img-src", "connect-src"):
        assert set(policy[kind].split()) <= {"data:", "blob:"}


def _scripts_of(page: Page) -> list[str]:
    """The hashes of the scripts in the frame, which is held to the page's policy too."""
    (frame,) = page.all("iframe")
    scripts = re.findall(r"<script>(.*?)</script>", frame["srcdoc"], re.DOTALL)
    assert len(scripts) == 2
    return [viewer.script_hash(script) for script in scripts]


def test_nothing_of_another_folder_gets_into_a_page(tmp_path):
    (tmp_path / "secret.log").write_text("a secret")
    (tmp_path / "attempt-1.log").write_text("a secret")
    run = page_run(tmp_path / "run")
    for log in (tmp_path / "secret.log", "../../secret.log", tmp_path / "attempt-1.log"):
        run.manifest.nodes["isomer"].attempts[0].log = str(log)
        run.manifest.nodes["isomer"].attempts[0].outcome = "crashed"
        assert "a secret" not in page_of(run).text
    mesh, picture = run.path / RESULT / "mesh.glb", run.path / "multiview" / "views.npy"
    for file in (mesh, picture, run.path / "input.png"):
        elsewhere = tmp_path / file.name
        file.rename(elsewhere)
        file.symlink_to(elsewhere)
    page = page_of(run)
    assert page.all("iframe") == []
    assert "mesh.glb cannot be shown" in page.text
    assert len(page.all("img")) == 4 + 5, "normals and renders"


def test_a_log_is_shown_to_its_end(tmp_path):
    run = page_run(tmp_path / "run")
    node = run.manifest.nodes["isomer"]
    node.attempts[0] = AttemptRow(rung=0, device="cpu", outcome="crashed", log="x/attempt-1.log")
    lines = [f"line {number}" for number in range(2000)]
    run.inside.write("isomer/attempt-1.log", "\n".join(lines).encode())
    text = page_of(run).text
    assert "line 1999" in text
    assert "line 1000\n" not in text


def test_a_mesh_that_is_none_or_too_large_costs_the_view_alone(tmp_path, monkeypatch):
    run = page_run(tmp_path / "run")
    (run.path / RESULT / "mesh.glb").write_bytes(b"no mesh")
    page = page_of(run)
    assert "mesh.glb cannot be shown: it is no GLB file" in page.text
    assert "Views" in page.text
    monkeypatch.setattr(run_page, "MOST_BYTES", 1000)
    (run.path / RESULT / "mesh.glb").write_bytes(bytes(2000))
    assert "mesh.glb cannot be shown: it is larger" in page_of(run).text
    (run.path / RESULT / "mesh.glb").unlink()
    assert "there is no mesh" in page_of(run).text


def test_without_trimesh_s_viewer_there_is_a_page_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(viewer.importlib.util, "find_spec", lambda name: None)
    page = page_of(page_run(tmp_path / "run"))
    assert "No 3D view: trimesh, which has the viewer, is not installed" in page.text
    assert policy_of(page)["script-src"] == "'none'"


def test_the_texture_is_shown(tmp_path):
    page = page_of(page_run(tmp_path / "run", colours="texture"))
    assert "Texture" in page.text
    assert [one for one in page.all("img") if one["alt"] == "Texture"]


def test_an_odd_record_has_a_page(tmp_path):
    run = page_run(tmp_path / "run")
    record = json.loads((run.path / "run.json").read_text())
    record["machine"] = {"gpus": "none", "packages": 5, "ram_bytes": "much", "cores": [1]}
    record["settings"] = {"nodes": {"a": {"stage": "gone", "attempts": [{"device": 1}]}}}
    record["nodes"]["isomer"]["attempts"][0] |= {
        "vram": {"peak": "much", "verdict": 3},
        "predicted": {"vram": None},
        "timings": {"load": -1.0},
    }
    record["nodes"]["isomer"]["artifacts"]["renders"][0]["file"] = "nothing.npy"
    (run.path / "run.json").write_text(json.dumps(record))
    page = page_of(RunDirectory.open(run.path))
    assert "nodes.a.stage".removeprefix("nodes.") in page.text


def test_a_page_stays_small(tmp_path):
    run = page_run(tmp_path / "run")
    write_report(run)
    size = (run.path / RESULT / "report.html").stat().st_size
    mesh = (run.path / RESULT / "mesh.glb").stat().st_size
    # three.js has 0.71 MB, the mesh grows by a third; 0.08 MB are left for small pictures.
    assert size < 1.5 * mesh + 1_200_000
    assert (run.path / RESULT / "thumbnail.jpg").stat().st_size < 30_000


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        ({}, "run p.png --profile sketch --seed 7"),
        ({"seed": "--set seed=7"}, "run p.png --profile sketch --set seed=7"),
        ({"a": "--fast", "b": "file my.yaml"}, "--fast --config my.yaml --seed 7"),
        ({"a": "--set x.text='a b' $(c)"}, "--set 'x.text='\"'\"'a b'\"'\"' $(c)' --seed 7"),
    ],
)
def test_the_command_makes_the_run_again(sources, words, tmp_path):
    run = page_run(tmp_path / "run", source="p.png", profile="sketch", sources=sources)
    assert words in facts.again(run.manifest)


def test_from_a_clone_the_command_is_its_launcher(tmp_path, monkeypatch):
    monkeypatch.setenv("KISS3D_CALLED_AS", "bin/kiss3d-orchestrate")
    run = page_run(tmp_path / "run", source="p.png", profile="sketch")
    assert facts.again(run.manifest).startswith("bin/kiss3d-orchestrate run p.png")


def test_what_the_command_line_said_of_the_machine_is_in_the_command(tmp_path):
    given = InputRecord(source="m.png", file="mask.png", size=1, digest="")
    run = page_run(tmp_path / "run", until="isomer", device="cuda:1", target_vram=8.0)
    run.manifest.given["input_mask"] = given
    told = facts.again(run.manifest)
    assert "ball.png --mask m.png --" in told
    assert told.endswith("--seed 7 --until isomer --device cuda:1 --target-vram 8")


def test_pictures_are_read_only_from_the_run(tmp_path):
    assert run_page.picture_name(page_run(tmp_path / "a", source="C:\\x\\y.png")) == "y.png"
    assert run_page.picture_name(page_run(tmp_path / "b", source=str(Path("/")))) == "a picture"
