"""Pages in a real browser: the mesh is seen and turns, nothing is asked of a network, and what
others wrote is text."""

from __future__ import annotations

import pytest

from devtools.looking import columns_of_object, pixels, reds, share_of_object, shown
from devtools.page_runs import TRAPS, page_run
from devtools.patience import eventually
from orchestrator.commands.compare import compare
from orchestrator.report.gallery import Entry, write_gallery
from orchestrator.report.run_page import write_report
from orchestrator.system.inside import Inside

TITLE = "<script>document.title='caught'</script>\"'&.png"


@pytest.mark.parametrize(
    ("scheme", "colours"),
    [
        ("light", "vertices"),
        ("dark", "texture"),
        pytest.param("light", "texture", marks=pytest.mark.slow),
        pytest.param("dark", "vertices", marks=pytest.mark.slow),
    ],
)
def test_the_mesh_is_seen_in_its_colours_and_turns(scheme, colours, visit, tmp_path):
    write_report(page_run(tmp_path / "run", colours=colours))
    seen = visit(tmp_path / "run" / "result" / "report.html", color_scheme=scheme)
    frame = seen.page.locator("iframe")
    before = shown(frame)
    corner = before[12, 12].astype(int)
    assert (corner.mean() > 200) == (scheme == "light"), "its ground is the page's"
    assert 0.2 < reds(before) < 0.9, "0.6: both halves are seen, from a little to the right"
    box = frame.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    seen.page.mouse.move(x, y)
    seen.page.mouse.down()
    seen.page.mouse.move(x - box["width"] / 4, y, steps=8)
    seen.page.mouse.up()
    assert eventually(lambda: abs(reds(pixels(frame)) - reds(before)) > 0.1)
    assert seen.complaints == []


def test_a_page_asks_only_for_itself(visit, tmp_path):
    page = tmp_path / "run" / "result" / "report.html"
    write_report(page_run(tmp_path / "run", colours="texture"))
    seen = visit(page)
    shown(seen.page.locator("iframe"))
    outside = [url for url in seen.requests if not url.startswith(("data:", "blob:"))]
    assert set(outside) <= {page.as_uri(), "about:srcdoc"}


def test_a_page_may_not_ask_for_anything_else(visit, tmp_path):
    write_report(page_run(tmp_path / "run"))
    seen = visit(tmp_path / "run" / "result" / "report.html")
    tried = """async () => {
        const picture = new Image();
        const blocked = new Promise((done) =>
            document.addEventListener("securitypolicyviolation", (e) =>
                done(e.effectiveDirective)));
        picture.src = "http://127.0.0.1:9/x.png";
        return [await blocked, await fetch("http://127.0.0.1:9/").catch(() => "refused")];
    }"""
    assert seen.page.evaluate(tried) == ["img-src", "refused"]


def test_the_tables_are_there_and_fit_a_phone(visit, tmp_path):
    write_report(page_run(tmp_path / "run"))
    seen = visit(
        tmp_path / "run" / "result" / "report.html", viewport={"width": 360, "height": 740}
    )
    rows = seen.page.locator("#nodes tbody tr")
    assert rows.count() == 2
    assert "multiview" in rows.first.inner_text()
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert share_of_object(shown(seen.page.locator("iframe"))) < 0.6


def test_all_of_the_mesh_is_seen_in_a_narrow_frame(visit, tmp_path):
    write_report(page_run(tmp_path / "run"))
    frame = visit(tmp_path / "run" / "result" / "report.html").page.locator("iframe")
    shown(frame)
    frame.evaluate("one => one.style.cssText = 'width: 200px; height: 600px'")

    def is_inside() -> bool:
        picture = pixels(frame)
        return picture.shape[1] == 200 and not columns_of_object(picture)[[0, -1]].any()

    assert eventually(is_inside)
    assert columns_of_object(pixels(frame)).mean() > 0.4, "and as large as fits"


@pytest.mark.parametrize("trap", TRAPS)
def test_what_others_wrote_is_text(trap, visit, tmp_path):
    name = f"{trap.replace('/', '|')}.png"
    run = page_run(tmp_path / "run", source=name, error=trap)
    run.manifest.nodes["isomer"].warnings = [trap]
    write_report(run)
    seen = visit(run.path / "result" / "report.html")
    assert seen.page.title() == name
    assert seen.page.locator("h1").inner_text() == name
    assert seen.page.locator(".trouble").first.inner_text() == trap
    assert seen.page.locator("img[src='x']").count() == 0
    assert seen.complaints == []


def test_a_gallery_is_searched(visit, tmp_path):
    runs = [page_run(tmp_path / f"run{number}") for number in range(3)]
    for run in runs:
        write_report(run)
    entries = [Entry(run.path.name, f"{run.path.name} {TITLE}", run) for run in runs]
    entries.append(Entry("bad", "bad.png", None, f"no picture {TRAPS[1]}"))
    write_gallery(Inside(tmp_path), entries)
    seen = visit(tmp_path / "index.html")
    cards = seen.page.locator("#gallery li:visible")
    assert cards.count() == 4
    assert TITLE in cards.first.text_content()  # what is out of sight has no inner_text
    seen.page.fill("#search", "RUN2 done")
    assert cards.count() == 1
    assert seen.page.locator("#count").inner_text() == "1 of 4"
    picture = seen.page.locator("#gallery li:visible img")
    assert eventually(lambda: picture.evaluate("one => one.naturalWidth") > 0)
    seen.page.fill("#search", "")
    seen.page.select_option("#state", "failed")
    assert cards.count() == 1
    assert f"no picture {TRAPS[1]}" in cards.first.text_content()
    seen.page.select_option("#state", "")
    cards.first.locator("a").click()
    seen.page.wait_for_url("**/run0/result/report.html")
    assert seen.complaints == []
    assert all(url.startswith(("file:", "data:", "blob:", "about:")) for url in seen.requests)


def test_a_long_warning_leaves_the_other_cards_of_a_gallery_in_sight(visit, tmp_path):
    run = page_run(tmp_path / "run")
    run.manifest.nodes["isomer"].warnings = ["words " * 300]
    write_gallery(Inside(tmp_path), [Entry("run", "ball.png", run)])
    card = visit(tmp_path / "index.html").page.locator("#gallery li")
    assert card.bounding_box()["height"] < 600
    assert card.text_content().count("words") == 300, "the search finds all of it"


def test_runs_are_seen_side_by_side(visit, tmp_path):
    paths = [page_run(tmp_path / f"run{number}", seed=number).path for number in (1, 2)]
    seen = visit(compare(paths, None, tmp_path / "both.html"))
    frames = seen.page.locator("iframe")
    assert frames.count() == 2
    for number in range(2):
        frames.nth(number).scroll_into_view_if_needed()
        shown(frames.nth(number))
    assert seen.page.locator("#facts").inner_text().count("run1") >= 1
    assert seen.complaints == []
