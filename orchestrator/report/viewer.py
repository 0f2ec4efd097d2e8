"""The 3D view: trimesh's own viewer, a page with three.js in it, filled with a mesh.

It is read from the installed package when a page is written, without importing trimesh. What is
added to it, `viewer_setup.js`, sets colours and light, and shows all of the mesh in a narrow frame.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import zipfile
from dataclasses import dataclass
from pathlib import Path

from orchestrator.report.glb import Glb

TEMPLATES = Path(__file__).parent / "templates"
MOST_BYTES = 32 << 20
"""A larger mesh file is not put into a page: browsers take long over a page of 50 MB."""
_MARK = "$B64GLTF"
_TEMPLATE_BYTES = 8 << 20
"""Version 5.2 of trimesh has 0.7 MB of it."""


class NoViewerError(Exception):
    """Why there is no 3D view, as a clause for people."""


@dataclass(frozen=True)
class Viewer:
    """A page of its own, for the `srcdoc` of a frame.

    scripts: what a Content-Security-Policy calls its scripts ('sha256-...')
    """

    document: str
    scripts: tuple[str, ...]

    @property
    def as_attribute(self) -> str:
        """The document as it stands between two quotation marks."""
        return self.document.replace("&", "&amp;").replace('"', "&quot;")


def make_viewer(glb: Glb) -> Viewer:
    """The viewer with this mesh in it. Raises `NoViewerError`, or ValueError for a strange mesh."""
    template = _template()
    setup = (TEMPLATES / "viewer_setup.js").read_text(encoding="utf-8")
    content = base64.b64encode(glb.for_viewer()).decode("ascii")
    before, _, after = template.partition(_MARK)
    body, end, rest = after.rpartition("</body>")
    document = f"{before}{content}{body}<script>{setup}</script>{end}{rest}"
    pieces = document.split("<script>")[1:]
    return Viewer(document, tuple(script_hash(one.partition("</script>")[0]) for one in pieces))


def script_hash(script: str) -> str:
    """What a Content-Security-Policy calls a script that stands in the page."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _template() -> str:
    """trimesh's viewer, without a mesh. Raises `NoViewerError`."""
    found = importlib.util.find_spec("trimesh")
    if found is None or not found.submodule_search_locations:
        raise NoViewerError("trimesh, which has the viewer, is not installed")
    file = Path(found.submodule_search_locations[0], "resources", "templates", "viewer.zip")
    try:
        with zipfile.ZipFile(file) as archive:
            [entry] = archive.infolist()
            if entry.file_size > _TEMPLATE_BYTES:
                raise ValueError("it is too large")
            text = archive.read(entry).decode()
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise NoViewerError(f"trimesh's viewer cannot be read ({error})") from error
    # As a browser reads it; a hash of anything else would not be the script's.
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if text.count(_MARK) != 1 or text.count("<script") != text.count("<script>"):
        raise NoViewerError("trimesh's viewer is of a kind that is not known here")
    return text
