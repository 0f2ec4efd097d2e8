"""One self-contained HTML file: templates filled with what others wrote, all of it as text.

No page asks for anything from anywhere: its Content-Security-Policy allows nothing but what stands
in it (and a gallery the pictures beside it), and only those scripts that were put there here.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.report.viewer import TEMPLATES, Viewer, script_hash
from orchestrator.system.terminal import visible

if TYPE_CHECKING:
    import jinja2

GENERATOR = "kiss3d-orchestrate"
_HEAD_BYTES = 512


def render(
    template: str,
    viewers: Iterable[Viewer] = (),
    script: str = "",
    beside: bool = False,
    **facts: Any,
) -> bytes:
    """The page that a template makes of these facts.

    viewers: 3D views in it. script: a file of the templates' folder that is put into the page.
    beside: it shows pictures that lie beside it
    """
    code = _file(script) if script else ""
    hashes = {name for viewer in viewers for name in viewer.scripts}
    if code:
        hashes.add(script_hash(code))
    policy = {
        "default-src": "'none'",
        "script-src": " ".join(sorted(hashes)) or "'none'",
        "style-src": "'unsafe-inline'",
        "img-src": "data: blob: file: 'self'" if beside else "data: blob:",
        "connect-src": "data: blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    page = (
        templates_of(TEMPLATES)
        .get_template(template)
        .render(
            generator=GENERATOR,
            policy="; ".join(f"{name} {value}" for name, value in policy.items()),
            style=_file("style.css"),
            script=code,
            **facts,
        )
    )
    return page.encode()


def is_ours(head: bytes) -> bool:
    """Whether a file that begins so is a page that this program wrote."""
    return f'<meta name="generator" content="{GENERATOR}">'.encode() in head[:_HEAD_BYTES]


@functools.cache
def _file(name: str) -> str:
    return (TEMPLATES / name).read_text(encoding="utf-8")


@functools.cache
def templates_of(folder: Path) -> jinja2.Environment:
    """The templates in a folder, which take what others wrote as text."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_spelled_out,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _spelled_out(value: Any) -> Any:
    """A text with characters that act, or that no file can hold, spelled out; escaping follows."""
    marked_safe = hasattr(value, "__html__")
    return visible(value) if isinstance(value, str) and not marked_safe else value
