"""index.html of a batch: each picture with its state and a way to its page, for a thousand too."""

from __future__ import annotations

import pytest

from devtools.page_runs import TRAPS, Page, page_run
from orchestrator.record.result_folder import INDEX_HTML
from orchestrator.report.gallery import (
    Entry,
    ForeignPageError,
    GalleryCard,
    gallery_html,
    write_gallery,
)
from orchestrator.report.run_page import write_report
from orchestrator.system.inside import Inside


def test_each_picture_has_its_state_and_a_way_to_its_page(tmp_path):
    good = page_run(tmp_path / "caf\u00e9 1")
    write_report(good)
    bare = page_run(tmp_path / "bare", state="failed", error="no room")
    entries = [
        Entry("caf\u00e9 1", "caf\u00e9 1.png", good),
        Entry("bare", "bare.png", bare, "no room"),
        Entry("gone", "gone.png", None, "not a picture"),
    ]
    write_gallery(Inside(tmp_path), entries)
    page = Page((tmp_path / INDEX_HTML).read_bytes())
    for said in ("caf\u00e9 1.png", "no room", "not a picture", "1 done, 2 failed", "2.5 s"):
        assert said in page.text
    assert page.addresses == {
        "caf%C3%A9%201/result/report.html",
        "caf%C3%A9%201/result/thumbnail.jpg",
        "bare/result/mesh.glb",
    }
    assert all(picture["loading"] == "lazy" for picture in page.all("img"))


@pytest.mark.parametrize("trap", TRAPS)
def test_what_others_wrote_is_text(trap, tmp_path):
    run = page_run(tmp_path / "run")
    run.manifest.nodes["isomer"].degraded = run.manifest.state = trap
    run.manifest.nodes["isomer"].warnings = [trap]
    write_gallery(Inside(tmp_path), [Entry("run", trap, run, trap), Entry(trap, trap, None, trap)])
    page = Page((tmp_path / INDEX_HTML).read_bytes())
    assert page.text.count(trap) >= 6
    assert len(page.all("script")) == 1, "the search"
    assert [
        tag for tag, attributes in page.elements for name in attributes if name[:2] == "on"
    ] == []
    assert page.addresses == {"run/result/mesh.glb"}


def test_a_thousand_pictures_are_a_small_page():
    state = ("done", "failed")
    cards = [
        GalleryCard(
            f"picture number {number}.png",
            f"picture_number_{number}",
            state[number % 2],
            "12.3 s",
            "",
            "",
            "preprocess: the input file is not a picture that can be read" * (number % 2),
            f"picture_number_{number}/result/report.html",
            f"picture_number_{number}/result/thumbnail.jpg",
        )
        for number in range(1000)
    ]
    content = gallery_html("many", cards)
    assert len(content) < 800_000  # 0.55 MB
    assert len(Page(content).all("li")) == 1000


def test_a_page_of_somebody_else_is_not_written_over(tmp_path):
    (tmp_path / INDEX_HTML).write_text("<html>my own notes</html>")
    with pytest.raises(ForeignPageError, match="was not made by this program"):
        write_gallery(Inside(tmp_path), [])
    assert "my own notes" in (tmp_path / INDEX_HTML).read_text()
    (tmp_path / INDEX_HTML).unlink()
    write_gallery(Inside(tmp_path), [])
    write_gallery(Inside(tmp_path), [])
    assert "0 results" in Page((tmp_path / INDEX_HTML).read_bytes()).text
