"""A run in a notebook: its page, and nothing of anybody's that acts."""

from __future__ import annotations

import html
import re

import kiss3d
from devtools.page_runs import TRAPS, page_run


def page_in(shown: str) -> str:
    [frame] = re.findall(r'<iframe sandbox="allow-scripts" srcdoc="([^"]*)"', shown)
    return html.unescape(frame)


def test_a_run_is_shown_as_its_page_in_a_sandboxed_frame(tmp_path):
    page_run(tmp_path / "run", colours="vertices")
    shown = kiss3d.Run.open(tmp_path / "run")._repr_html_()
    page = page_in(shown)
    assert "<iframe" in page, "the 3D view"
    assert 'id="nodes"' in page


def test_a_report_that_a_stranger_put_there_is_not_shown(tmp_path):
    run = page_run(tmp_path / "run")
    (run.path / "result" / "report.html").write_text("<script>steal()</script>")
    assert "steal()" not in kiss3d.Run.open(run.path)._repr_html_()


def test_texts_of_others_stay_texts(tmp_path):
    for number, trap in enumerate(TRAPS):
        run = page_run(tmp_path / f"run{number}", error=trap)
        run.save()
        shown = kiss3d.Run.open(run.path)._repr_html_()
        assert trap not in page_in(shown) or "<" not in trap
        assert shown.count('"') < 40, "nothing ends the attribute before its end"


def test_a_directory_without_a_run_is_told_as_text(tmp_path):
    run = page_run(tmp_path / "run")
    there = kiss3d.Run.open(run.path)
    (run.path / "run.json").unlink()
    assert there._repr_html_().startswith("<pre>")
