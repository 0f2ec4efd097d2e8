"""`web` in a real browser: from a picture to a file that is saved, and what happens in between."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

import kiss3d
from devtools.fakes.tools import ROOT, leftovers
from devtools.looking import pixels, shown
from devtools.patience import eventually
from devtools.web_server import Server, web_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("gradio") is None, reason="the extra web is not installed"),
]
ROBOT = ROOT / "examples" / "robot.png"
LONG = "isomer.stage2_steps = 2000"
"""A run that lasts until somebody stops it."""
WAIT = 240_000


class Visitor:
    """A browser at the page, and what it complained of and asked for."""

    def __init__(self, browser: Any, server: Server, path: str = "/") -> None:
        self.context = browser.new_context(accept_downloads=True)
        self.context.set_default_timeout(WAIT)
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on(
            "console",
            lambda message: (
                self.complaints.append(message.text) if message.type == "error" else None
            ),
        )
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.server = server
        self.page.goto(server.address + path)
        self.page.wait_for_selector("#go")

    def choose(self, picture: Path, more: str = "") -> None:
        page = self.page
        page.set_input_files("#picture input[type=file]", str(picture))
        page.wait_for_selector("#picture img")
        page.click("#profile input")
        page.locator("ul[role=listbox] li", has_text="sketch").first.click()
        if more:
            page.get_by_role("button", name="More settings").click()
            page.get_by_label("Settings of stages").fill(more)
            page.get_by_label("Settings of stages").blur()

    def make(self) -> str:
        """Press the button; the run's name."""
        self.page.click("#go")
        self.page.wait_for_selector("#status [data-run]")
        return str(self.page.get_attribute("#status [data-run]", "data-run"))

    def until(self, state: str) -> None:
        self.page.wait_for_selector(f"#status .k3-job[data-state={state}]")

    def saved(self, name: str, folder: Path) -> bytes:
        with self.page.expect_download() as download:
            self.page.locator(".k3-file", has_text=name).first.click()
        target = folder / "saved"
        download.value.save_as(target)
        return target.read_bytes()


@pytest.fixture
def visitors(browser: Any) -> Iterator[Any]:
    opened: list[Visitor] = []

    def visit(server: Server, path: str = "/") -> Visitor:
        opened.append(Visitor(browser, server, path))
        return opened[-1]

    yield visit
    for visitor in opened:
        visitor.context.close()


def turned(page: Any) -> bool:
    """Drag the 3D view, and see whether it looks another way."""
    frame = page.locator("iframe.k3-view")
    before = shown(frame)
    box = frame.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - box["width"] / 3, y, steps=8)
    page.mouse.up()

    def differs() -> bool:
        now = pixels(frame)
        return now.shape == before.shape and bool(
            (abs(now.astype(int) - before) > 40).mean() > 0.01
        )

    return eventually(differs)


def test_from_a_picture_to_a_mesh_that_turns_and_a_file_that_is_saved(visitors, tmp_path):
    with web_server(tmp_path) as server:
        seen = visitors(server)
        seen.choose(ROBOT)
        seen.page.wait_for_selector("#plan .k3-cost")
        assert "no card needed" in seen.page.inner_text("#plan")
        name = seen.make()
        seen.page.wait_for_selector("#status table")
        assert {"preprocess", "isomer"} <= set(seen.page.locator("#status th").all_inner_texts())
        seen.until("done")
        assert turned(seen.page)
        mesh = server.outputs / name / "result/mesh.glb"
        assert seen.saved("mesh.glb", tmp_path) == mesh.read_bytes()
        assert f"run={name}" in seen.page.url
        again = visitors(server, f"/?run={name}")
        again.until("done")
        again.page.get_by_role("tab", name="Runs").click()
        again.page.wait_for_selector(".k3-gallery img")
        assert "robot.png" in again.page.inner_text(".k3-gallery")
        for visitor in (seen, again):
            assert visitor.complaints == []
            others = ("data:", "blob:", "about:", server.address)
            assert [url for url in visitor.asked if not url.startswith(others)] == []
    assert leftovers(server.outputs) == []


def test_cancel_ends_the_stage_and_the_page_goes_on_with_it(visitors, tmp_path):
    with web_server(tmp_path) as server:
        seen = visitors(server)
        seen.choose(ROBOT, LONG)
        name = seen.make()
        seen.page.wait_for_selector("#status .k3-row-running:has-text('isomer')")
        family = psutil.Process(server.process.pid).children(recursive=True)
        seen.page.click("#cancel")
        seen.until("interrupted")
        assert eventually(lambda: not [one for one in family if one.is_running()])
        assert kiss3d.Run.open(server.outputs / name).state == "interrupted"
        seen.page.click("#resume")
        seen.until("running")
        seen.page.wait_for_selector("#status .k3-row-cached, #status .k3-row-running")
        seen.page.click("#cancel")
        seen.until("interrupted")


def test_two_people_at_once_each_see_their_own(visitors, tmp_path):
    with web_server(tmp_path) as server:
        one, other = visitors(server), visitors(server)
        one.choose(ROBOT)
        other.choose(ROBOT, "isomer.stage2_steps = 2")
        names = [one.make(), other.make()]
        assert len(set(names)) == 2
        other.page.wait_for_selector(
            "#status .k3-job:is([data-state=waiting],[data-state=running])"
        )
        for visitor, name in ((one, names[0]), (other, names[1])):
            visitor.until("done")
            assert visitor.page.get_attribute("#status [data-run]", "data-run") == name
            saved = visitor.saved("mesh.glb", tmp_path)
            assert saved == (server.outputs / name / "result/mesh.glb").read_bytes()


def test_a_hostile_name_is_a_text_and_stays_in_the_outputs(visitors, tmp_path):
    hostile = tmp_path / "'\"><img src=x onerror=alert(1)>;$(id)..%2e%2e&.png"
    shutil.copy(ROBOT, hostile)
    with web_server(tmp_path) as server:
        seen = visitors(server)
        seen.choose(hostile, "isomer.stage2_steps = 1")
        name = seen.make()
        assert (server.outputs / name / "run.json").is_file()
        assert "/" not in name
        seen.until("done")
        seen.page.get_by_role("tab", name="Runs").click()
        seen.page.wait_for_selector(".k3-gallery img")
        assert seen.page.locator("img[src=x]").count() == 0
        assert seen.complaints == []
        seen.page.get_by_role("tab", name="Make").click()
        assert (
            seen.saved("mesh.glb", tmp_path)
            == (server.outputs / name / "result/mesh.glb").read_bytes()
        )


def test_a_killed_servers_run_is_resumed_from_the_page(visitors, tmp_path):
    with web_server(tmp_path) as server:
        seen = visitors(server)
        seen.choose(ROBOT, LONG)
        name = seen.make()
        seen.page.wait_for_selector("#status .k3-row-running:has-text('isomer')")
        family = psutil.Process(server.process.pid).children(recursive=True)
        server.stop(signal.SIGKILL)
        assert eventually(lambda: not [one for one in family if one.is_running()])
    run = kiss3d.Run.open(server.outputs / name)
    assert run.state == "interrupted"
    with web_server(tmp_path) as server:
        back = visitors(server, f"/?run={name}")
        back.until("interrupted")
        back.page.click("#resume")
        back.until("running")
        back.page.wait_for_selector("#status .k3-row-running:has-text('isomer')")
        back.page.click("#cancel")
        back.until("interrupted")
    assert len(run.manifest.nodes["preprocess"].attempts) == 1, "what was finished is kept"
    with contextlib.suppress(ProcessLookupError):
        server.process.kill()


def test_what_is_no_picture_is_told_in_words(visitors, tmp_path):
    fake = tmp_path / "fake.png"
    fake.write_bytes(b"%PDF-1.7 this is no picture")
    with web_server(tmp_path) as server:
        seen = visitors(server)
        seen.page.set_input_files("#picture input[type=file]", str(fake))
        seen.page.wait_for_selector("#plan .k3-trouble")
        assert seen.page.inner_text("#plan").startswith("fake.png is a PDF document")
        seen.page.click("#go")
        seen.page.wait_for_selector("#status .k3-trouble")
        assert "PDF" in seen.page.inner_text("#status")
        assert list(server.outputs.iterdir()) == []


def test_an_address_of_a_run_that_is_gone_says_so(visitors, tmp_path):
    with web_server(tmp_path) as server:
        page = visitors(server, "/?run=<b>gone").page
        page.wait_for_selector("#status .k3-trouble")
        assert "there is no run <b>gone here" in page.inner_text("#status")
