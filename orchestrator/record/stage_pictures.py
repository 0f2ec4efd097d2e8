"""<node>/preview-NAME.png: what a stage shows of its work on the way, for people; not recorded."""

from __future__ import annotations

import contextlib
import io
import re

from orchestrator.record.run_directory import RunDirectory
from stages.process.protocol import Preview

PICTURE = re.compile(r"preview-([a-z0-9-]{1,40})\.png")


def write(run: RunDirectory, node: str, shown: Preview) -> None:
    """Put a picture that a process has sent beside the node's outputs, as a PNG made here.

    It has been held to its sizes (`what_is_wrong`). A full disk costs the picture, nothing else.
    """
    from PIL import Image

    image = Image.frombytes("RGB", (shown.width, shown.height), shown.pixels)
    buffer = io.BytesIO()
    image.save(buffer, "png")
    with contextlib.suppress(OSError):
        run.inside.write(f"{node}/preview-{shown.name}.png", buffer.getvalue(), durable=False)


def names(run: RunDirectory, node: str) -> list[str]:
    """The files that there are of a node, in the order of their names."""
    entries = run.inside.entries(node)
    return [entry.name for entry in entries if entry.is_file and PICTURE.fullmatch(entry.name)]


def clear(run: RunDirectory, node: str) -> None:
    """Remove what an earlier attempt has shown. Raises OSError."""
    for name in names(run, node):
        run.inside.remove(f"{node}/{name}")


def what_is_wrong(shown: Preview) -> str:
    """Why a message is no picture that may be written, or ""."""
    if not PICTURE.fullmatch(f"preview-{shown.name}.png"):
        return f"with a name that no file may have, {shown.name!r:.80}"
    if min(shown.height, shown.width) < 1 or len(shown.pixels) != 3 * shown.height * shown.width:
        return "of another size than it says"
    return ""
