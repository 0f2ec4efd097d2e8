"""index.html of a batch: every picture with what became of it, and links to the runs' pages.

It shows the thumbnails that lie in the runs' own directories, each when it comes into sight, so
that a thousand of them make a page of half a megabyte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from orchestrator.record.result_folder import (
    INDEX_HTML,
    PREVIEW_PNG,
    REPORT_HTML,
    RESULT_FILES,
    THUMBNAIL_JPG,
)
from orchestrator.record.run_directory import RESULT, RunDirectory
from orchestrator.record.summary import state_now
from orchestrator.report import page
from orchestrator.system.inside import Inside

_PAGES = (REPORT_HTML, RESULT_FILES["glb"], PREVIEW_PNG)
"""What a picture's card leads to: the first of these that there is."""


@dataclass(frozen=True)
class Entry:
    """One picture of a batch.

    folder  name of its run's directory; run: None where there is none that can be read
    error   why it failed, or ""
    """

    folder: str
    picture: str
    run: RunDirectory | None
    error: str = ""


@dataclass(frozen=True)
class GalleryCard:
    """A picture as the gallery shows it. page, thumbnail: addresses relative to it, or ""."""

    picture: str
    folder: str
    state: str
    seconds: str
    degraded: str
    warnings: str
    error: str
    page: str
    thumbnail: str


class ForeignPageError(OSError):
    """A file of this name is there, and is not a page of this program."""


def write_gallery(inside: Inside, entries: Iterable[Entry]) -> None:
    """Write index.html into a batch directory. Raises OSError, `ForeignPageError` among them."""
    if not may_write(inside):
        raise ForeignPageError(f"{inside.root / INDEX_HTML} was not made by this program")
    title = Path(inside.root).resolve().name
    inside.write(INDEX_HTML, gallery_html(title, [card(one) for one in entries]))


def may_write(inside: Inside) -> bool:
    """Whether index.html is missing, or a page of this program."""
    try:
        with inside.read(INDEX_HTML) as stream:
            return page.is_ours(stream.read(1024))
    except FileNotFoundError:
        return True
    except OSError:  # a link, a folder
        return False


def gallery_html(title: str, cards: Sequence[GalleryCard]) -> bytes:
    counts = Counter(one.state for one in cards)
    return page.render(
        "gallery.html",
        script="gallery.js",
        beside=True,
        title=title,
        cards=cards,
        counts=sorted(counts.items(), key=lambda item: (item[0] != "done", item[0])),
    )


def card(entry: Entry) -> GalleryCard:
    """What the gallery says of a picture."""
    run = entry.run
    if run is None:
        return GalleryCard(entry.picture, entry.folder, "failed", "", "", "", entry.error, "", "")
    with run.at_hand():
        return _card_of(entry, run)


def _card_of(entry: Entry, run: RunDirectory) -> GalleryCard:
    manifest = run.manifest
    there = {one.name for one in run.inside.entries(RESULT) if one.is_file}
    shown = next((name for name in _PAGES if name in there), "")
    return GalleryCard(
        entry.picture,
        entry.folder,
        state_now(run),
        f"{manifest.stage_seconds:.1f} s",
        "; ".join(f"{node}: {cost}" for node, cost in manifest.degraded.items()),
        "; ".join(text for texts in manifest.warnings.values() for text in texts),
        entry.error,
        _address(entry.folder, shown),
        _address(entry.folder, THUMBNAIL_JPG if THUMBNAIL_JPG in there else ""),
    )


def _address(folder: str, name: str) -> str:
    return f"{quote(folder, errors='surrogateescape')}/{RESULT}/{quote(name)}" if name else ""
