"""<run>/result/: copies of what a person looks for first."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Mapping

from orchestrator.record.manifest import Keep
from orchestrator.record.preview_sheet import BUNDLES, UNDRAWABLE, PreviewSheet
from orchestrator.record.run_directory import RESULT, RunDirectory
from orchestrator.system.inside import Inside

RESULT_FILES = {
    "glb": "mesh.glb",
    "obj": "mesh.obj",
    "obj_material": "mesh.mtl",
    "texture": "mesh_color.png",
    "normal_map": "mesh_normal.png",
    "full_mesh": "mesh_full.ply",
}
"""Artifacts and their names there; an OBJ and its material name the files that they need."""
BUNDLE_PNG = "bundle.png"
PREVIEW_PNG = "preview.png"
REPORT_HTML = "report.html"
THUMBNAIL_JPG = "thumbnail.jpg"
INDEX_HTML = "index.html"
"""A batch's page, in its directory."""
RESULT_NAMES = (*RESULT_FILES.values(), BUNDLE_PNG, PREVIEW_PNG, REPORT_HTML, THUMBNAIL_JPG)


def mesh_files(keep: Keep, made: Container[str]) -> dict[str, str]:
    """Artifact -> its file in result/, of those that were made and are to stay there.

    made: names of artifacts. mesh.glb holds all that the other mesh files do.
    """
    found = {artifact: name for artifact, name in RESULT_FILES.items() if artifact in made}
    return {"glb": found["glb"]} if keep == "mesh" and "glb" in found else found


def write_result(run: RunDirectory, sheet: PreviewSheet) -> None:
    """Make <run>/result/ anew from the nodes that are done: meshes, bundle.png, preview.png.

    What `report` and `export` made of an earlier mesh goes; what was asked for with the run comes
    back behind the record.
    """
    written = {
        artifact: name
        for name, record in run.manifest.nodes.items()
        if record.state == "done"
        for artifact in record.artifacts
    }
    if not written and not (run.path / RESULT).is_dir():
        return
    run.inside.make_folder(RESULT)
    try:
        _fill(run, written, sheet)
    finally:
        run.inside.sync_folder(RESULT)
        run.inside.sync_folder()


def _fill(run: RunDirectory, written: Mapping[str, str], sheet: PreviewSheet) -> None:
    """written: artifact name -> the node that wrote it."""
    sources = {}
    for artifact, target in mesh_files(run.manifest.keep, written).items():
        node = written[artifact]
        sources[target] = f"{node}/{run.manifest.nodes[node].artifacts[artifact][0].file}"
    if not sources or not all(_same(run.inside, f"{RESULT}/{t}", s) for t, s in sources.items()):
        _remove_exports(run)
    for stale in RESULT_NAMES:
        run.inside.remove(f"{RESULT}/{stale}")
    for target, file in sources.items():
        with run.inside.read(file) as source:
            run.inside.copy(source, f"{RESULT}/{target}", durable=True)
    bundle = next((name for name in BUNDLES if name in written), None)
    if bundle:
        with (
            contextlib.suppress(FileNotFoundError),
            run.inside.read(f"{written[bundle]}/{bundle}.png") as source,
        ):
            run.inside.copy(source, f"{RESULT}/{BUNDLE_PNG}", durable=True)
    try:
        content = sheet.png(written)
    except UNDRAWABLE as error:
        run.event("no preview", error=str(error))
        return
    if content:
        run.inside.write(f"{RESULT}/{PREVIEW_PNG}", content)


def _remove_exports(run: RunDirectory) -> None:
    """Files that `export` made of a mesh that is another now; the record goes on to name them."""
    gone = run.manifest.exports
    for name in gone:
        run.inside.remove(f"{RESULT}/{name}")
    run.manifest.exports = []
    run.manifest.former_exports = sorted({*run.manifest.former_exports, *gone})


def _same(inside: Inside, one: str, other: str) -> bool:
    """Whether two files of the run have the same bytes."""
    try:
        with inside.read(one) as first, inside.read(other) as second:
            return first.read() == second.read()
    except FileNotFoundError:
        return False
