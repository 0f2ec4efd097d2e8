"""Pages as a user meets them: named at the end of a run, opened, left out, cleaned away."""

from __future__ import annotations

import csv
import json
import os
import sys

import pytest

from devtools.fakes.tools import cli_environment, made_run
from devtools.page_runs import Page


def test_a_run_names_its_page(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    page = out / "result" / "report.html"
    done = made_run(kiss3d, picture, config_file(), out)
    assert f"report: {page}" in done.stderr
    assert done.stdout == f"{out}\n", "pipes stay clean"
    assert "in.txt" in Page(page.read_bytes()).text
    told = json.loads(kiss3d("run", picture, "--config", config_file(), "-o", out, "--json").stdout)
    assert told["report"] == str(page)


def test_without_report_there_is_none_and_open_makes_it(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    made_run(kiss3d, picture, config_file(), out)
    done = kiss3d("resume", out, "--no-report", "--json")
    assert json.loads(done.stdout)["report"] == ""
    page = out / "result" / "report.html"
    assert not page.exists()
    shown = kiss3d("open", out, "--no-browser")
    assert shown.stdout == f"{page}\n"
    assert page.is_file()


@pytest.mark.skipif(sys.platform == "win32", reason="the browser is a shell script")
def test_open_shows_the_page_in_the_browser(kiss3d, picture, config_file, tmp_path):
    out = tmp_path / "out"
    made_run(kiss3d, picture, config_file(), out, "--no-report")
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    environment = {**cli_environment(), "BROWSER": f"{browser} %s"}
    os.environ.update(BROWSER=environment["BROWSER"])
    try:
        done = kiss3d("open", out, "--json")
    finally:
        del os.environ["BROWSER"]
    assert json.loads(done.stdout) == {
        "report": str(out / "result" / "report.html"),
        "opened": True,
    }
    assert (tmp_path / "opened").read_text() == f"file://{out}/result/report.html\n"


def test_a_batch_has_a_gallery_which_clean_knows(kiss3d, config_file, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "<script>good.txt").write_text("1")
    (folder / "bad.txt").write_text("no number")
    out = tmp_path / "out"
    ask = ("batch", folder, "--glob", "*.txt", "--config", config_file(), "--output", out)
    done = kiss3d(*ask)
    assert f"report: {out / 'index.html'}" in done.stderr
    page = Page((out / "index.html").read_bytes())
    assert "<script>good.txt" in page.text
    assert "1 done, 1 failed" in page.text
    with (out / "summary.csv").open() as stream:
        rows = {row["name"]: row["report"] for row in csv.DictReader(stream)}
    assert rows == {"script_good": str(out / "script_good" / "result" / "report.html"), "bad": ""}
    (out / "index.html").unlink()
    told = json.loads(kiss3d("open", out, "--no-browser", "--json").stdout)
    assert told == {"report": str(out / "index.html"), "opened": False}
    assert "<script>good.txt" in Page((out / "index.html").read_bytes()).text
    gone = kiss3d("clean", tmp_path, "--yes")
    assert gone.returncode == 0, gone.stderr
    assert not out.exists()


def test_a_batch_without_report_stays_without(kiss3d, config_file, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.txt").write_text("1")
    out = tmp_path / "out"
    ask = ("batch", folder, "--glob", "*.txt", "--config", config_file(), "--output", out)
    assert json.loads(kiss3d(*ask, "--no-report", "--json").stdout)["report"] == ""
    assert json.loads(kiss3d("resume", out, "--json").stdout)["report"] == ""
    assert not (out / "index.html").exists()
    assert not (out / "a" / "result" / "report.html").exists()


def test_compare_writes_a_page(kiss3d, picture, config_file, tmp_path):
    for seed in (1, 2):
        made_run(kiss3d, picture, config_file(), tmp_path / f"seed{seed}", "--seed", seed)
    done = kiss3d("compare", "seed1", "seed2")
    assert done.stdout == "compare-seed1-seed2.html\n"
    assert "seed" in Page((tmp_path / "compare-seed1-seed2.html").read_bytes()).text
    refused = kiss3d("compare", "seed1", "--json")
    assert refused.returncode == 2
    assert "cannot be compared" in json.loads(refused.stdout)["error"]
