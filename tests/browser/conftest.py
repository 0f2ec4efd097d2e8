"""The system's own Chromium, without a window and without a network."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
WITHOUT_A_CARD = (
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
    "--no-sandbox",  # root has none
    "--disable-dev-shm-usage",
)


@dataclass
class Visit:
    """A page in the browser, and what it complained of and asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("there is no Chromium here")
    if sys.platform != "linux":
        pytest.skip("tried with Linux' Chromium alone")
    with api.sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(executable_path=program, args=WITHOUT_A_CARD)
        except api.Error as error:
            pytest.skip(f"{program} does not start: {str(error).splitlines()[0]}")
        yield started
        started.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Open a file. Options are those of a browser's context: viewport, color_scheme, ..."""
    contexts = []

    def go(path: Path, **options: Any) -> Visit:
        context = browser.new_context(**options)
        contexts.append(context)
        # A page of 10 MB and a renderer in software, on a machine with other things to do.
        context.set_default_timeout(600_000)
        seen = Visit(context.new_page())
        seen.page.on(
            "console",
            lambda message: (
                seen.complaints.append(message.text)
                if message.type in ("error", "warning")
                and "GPU stall due to ReadPixels" not in message.text  # of our own looking
                else None
            ),
        )
        seen.page.on("pageerror", lambda error: seen.complaints.append(str(error)))
        seen.page.on("request", lambda request: seen.requests.append(request.url))
        seen.page.on("dialog", lambda dialog: seen.complaints.append(dialog.message))
        seen.page.goto(path.as_uri())
        return seen

    yield go
    for context in contexts:
        context.close()
