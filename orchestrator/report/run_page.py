"""result/report.html: what a run made, and how."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import PurePath

from orchestrator.errors import brief
from orchestrator.record.result_folder import (
    BUNDLE_PNG,
    PREVIEW_PNG,
    REPORT_HTML,
    RESULT_FILES,
    THUMBNAIL_JPG,
)
from orchestrator.record.run_directory import EVENTS, MANIFEST, RESULT, RunDirectory
from orchestrator.record.summary import state_now
from orchestrator.report import facts, page
from orchestrator.report.glb import Glb, read_glb
from orchestrator.report.pictures import Shown, Tile, data_url, pictures_of
from orchestrator.report.viewer import MOST_BYTES, NoViewerError, Viewer, make_viewer
from orchestrator.system.reading import limited

_LINKED = (*RESULT_FILES.values(), BUNDLE_PNG, PREVIEW_PNG)
_TEXTURE_BYTES = 4 << 20
_TEXTURE_PIXELS = 4096 * 4096
"""A larger texture is in the 3D view alone."""


@dataclass(frozen=True)
class MeshView:
    """The mesh of a run as a page shows it.

    viewer   the 3D view; why_not says why there is none
    texture  its base colour, where it has one of its own
    """

    faces: int = 0
    vertices: int = 0
    viewer: Viewer | None = None
    texture: Tile | None = None
    why_not: str = ""


def write_report(run: RunDirectory) -> None:
    """Write the page and its thumbnail into result/. Raises whatever goes wrong."""
    shown = pictures_of(run)
    run.inside.make_folder(RESULT)
    run.inside.write(f"{RESULT}/{REPORT_HTML}", report_html(run, shown), durable=False)
    if shown.thumbnail:
        run.inside.write(f"{RESULT}/{THUMBNAIL_JPG}", shown.thumbnail, durable=False)


def report_html(run: RunDirectory, shown: Shown) -> bytes:
    """The page of a run, with its mesh and these pictures."""
    manifest = run.manifest
    mesh = mesh_of(run)
    nodes = facts.node_facts(run)
    settings = facts.settings_of(manifest)
    there = {entry.name for entry in run.inside.entries(RESULT) if entry.is_file}
    return page.render(
        "run.html",
        [mesh.viewer] if mesh.viewer else [],
        title=picture_name(run),
        run=run,
        manifest=manifest,
        state=state_now(run),
        begun=facts.when(manifest.created),
        mesh=mesh,
        shown=shown,
        nodes=nodes,
        degraded=facts.degradations(nodes),
        settings=settings,
        changed=[row for row in settings if not row.plain],
        weights=facts.weights_of(manifest),
        machine=facts.machine_facts(manifest),
        command=facts.again(manifest),
        files=[name for name in _LINKED if name in there],
        record=(MANIFEST, EVENTS),
    )


def picture_name(run: RunDirectory) -> str:
    """What the user's picture or mesh is called, without its folders, or the words."""
    given = run.manifest.input
    if not given.source:
        return brief(given.title, 120)
    return PurePath(given.source.replace("\\", "/")).name or "a picture"


def mesh_of(run: RunDirectory) -> MeshView:
    """result/mesh.glb as a page shows it; a file that is none, or too large, is told of."""
    name = RESULT_FILES["glb"]
    try:
        with run.inside.read(f"{RESULT}/{name}") as stream:
            glb = read_glb(limited(stream, MOST_BYTES))
        faces, vertices = glb.faces, glb.vertices
    except FileNotFoundError:
        return MeshView(why_not="there is no mesh")
    except (OSError, ValueError, LookupError, TypeError) as error:
        return MeshView(why_not=f"{name} cannot be shown: {error}")
    try:
        return MeshView(faces, vertices, make_viewer(glb), _texture(glb))
    except (NoViewerError, ValueError) as error:
        return MeshView(faces, vertices, why_not=str(error))


def _texture(glb: Glb) -> Tile | None:
    """The mesh's own picture, small enough for a page."""
    with contextlib.suppress(Exception):  # Pillow's plugins have many errors for a damaged file
        found = glb.texture()
        if found is not None and len(found[1]) <= _TEXTURE_BYTES:
            return _drawn(found[1])
    return None


def _drawn(content: bytes) -> Tile:
    import io

    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        if picture.width * picture.height > _TEXTURE_PIXELS:
            raise ValueError("too large")
        picture.draft("RGB", (512, 512))
        image = picture.convert("RGB")
    image.thumbnail((512, 512))
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", quality=85)
    return Tile(data_url("image/jpeg", buffer.getvalue()), image.width, image.height, "texture")
