"""Runs for tests of pages, made without a stage: pictures, a mesh, and a record full of traps."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Literal

import numpy as np
import trimesh
from PIL import Image

from orchestrator.record.manifest import AttemptRow, FileRecord, InputRecord, Manifest, NodeRecord
from orchestrator.record.result_folder import RESULT_FILES
from orchestrator.record.run_directory import RESULT, RunDirectory
from orchestrator.system.atomic_files import digest_bytes
from stages.contract import Mesh
from stages.isomer.export import glb

TRAPS = (
    "<script>document.title='caught'</script>",
    '"><img src=x onerror="document.title=\'caught\'">',
    "' onload='document.title=1' {{ 7 * 7 }} </style></pre><!-- ${1}",
    "caf\u00e9 \u6f22\u5b57 \U0001f916",
)
"""Texts that a page must show as they are."""
ACTING = "\x1b]0;owned\x07\u202etxt.exe\udce9"
"""Characters that a page spells out."""

Colours = Literal["vertices", "texture"]


def ball_glb(colours: Colours = "vertices") -> bytes:
    """A ball: one half red and one half blue, at its vertices or in a picture around it."""
    ball = trimesh.creation.icosphere(3, 0.5)
    right = ball.vertices[:, 0] > 0
    if colours == "vertices":
        paint = np.where(right[:, None], (220, 20, 20), (20, 20, 220)).astype(np.uint8)
        mesh = Mesh(ball.vertices.astype(np.float32), ball.faces.astype(np.int32), paint)
        return glb(mesh, ball.vertex_normals)
    picture = Image.new("RGB", (64, 64), (220, 20, 20))
    picture.paste((20, 20, 220), (0, 0, 32, 64))
    ball.visual = trimesh.visual.TextureVisuals(
        uv=ball.vertices[:, :2] + 0.5,
        material=trimesh.visual.material.PBRMaterial(baseColorTexture=picture),
    )
    content = ball.export(file_type="glb")
    assert isinstance(content, bytes)
    return content


def page_run(
    path: Path,
    source: str = "/pictures/ball.png",
    colours: Colours = "vertices",
    **fields: Any,
) -> RunDirectory:
    """A finished run of the stage `inflate` and of `isomer`, with result/mesh.glb.

    fields: of the manifest, in place of those of a good run
    """
    buffer = io.BytesIO()
    Image.new("RGB", (300, 200), (250, 180, 40)).save(buffer, "png")
    picture = buffer.getvalue()
    record = InputRecord(
        source=source, file="input.png", size=len(picture), digest=digest_bytes(picture)
    )
    known = {"state": "done", "profile": "none", "seed": 7, "version": "0.1.0", "created": 1.7e9}
    manifest = Manifest(**{**known, "given": {"input_image": record}, **fields})
    run = RunDirectory.create(path, manifest, {"input_image": picture})
    views = np.stack([np.full((64, 64, 3), 60 * side, np.uint8) for side in range(4)])
    _node(run, "multiview", "inflate", {"views": views, "view_normals": 255 - views})
    _node(run, "isomer", "isomer", {"renders": np.concatenate([views, views[:1]])})
    run.inside.make_folder(RESULT)
    run.inside.write(f"{RESULT}/{RESULT_FILES['glb']}", ball_glb(colours), durable=False)
    run.save()
    return run


def _node(run: RunDirectory, name: str, stage: str, arrays: dict[str, np.ndarray]) -> None:
    folder = run.node_folder(name)
    files = {}
    for artifact, array in arrays.items():
        np.save(folder / f"{artifact}.npy", array)
        size = (folder / f"{artifact}.npy").stat().st_size
        files[artifact] = [FileRecord(file=f"{artifact}.npy", size=size)]
    row = AttemptRow(rung=0, device="cpu", outcome="done", seconds=1.25, warm=True)
    run.manifest.nodes[name] = NodeRecord(
        state="done", stage=stage, artifacts=files, attempts=[row]
    )


class Page(HTMLParser):
    """A page as a browser reads it: its elements, its text, and the text of its title."""

    def __init__(self, content: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._inside: list[str] = []
        self.feed(content.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self._inside[-1:]):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        """Attributes of each element of this name."""
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def addresses(self) -> set[str]:
        """All that its elements load or lead to, without what stands in the page itself."""
        found = {
            value
            for _, attributes in self.elements
            for name, value in attributes.items()
            if name in ("src", "href", "action", "data", "poster", "background", "formaction")
        }
        return {address for address in found if not address.startswith("data:")}
