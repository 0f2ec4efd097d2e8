"""A page in a notebook: in a frame of its own, which reaches nothing around it.

The page is written anew from the run's record, where every text of others is escaped; the
report.html that lies in a directory may be anybody's, and is not shown. The frame is sandboxed: its
scripts, those of the 3D view, have no origin, no storage, no network and no way to the notebook.
"""

from __future__ import annotations

import html
from collections.abc import Callable

from orchestrator.errors import KissError

HEIGHT = 760
"""Pixels: the 3D view and the first table of a run's page."""


def as_html(make_page: Callable[[], bytes]) -> str:
    """What `_repr_html_` gives for a page; where there is none, why, as text."""
    try:
        page = make_page().decode()
    except (KissError, OSError) as error:
        return f"<pre>{html.escape(str(error))}</pre>"
    return (
        f'<iframe sandbox="allow-scripts" srcdoc="{html.escape(page, quote=True)}" '
        f'style="width: 100%; height: {HEIGHT}px; border: 1px solid #8884"></iframe>'
    )
