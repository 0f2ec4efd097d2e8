"""Models to export: a painted ball, with a texture, with colours at its vertices, plain."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import trimesh
from PIL import Image

from stages.export.model import Model
from stages.export.write import Wanted, files_of

SIZE = 256


def painted_ball(subdivisions: int = 4) -> Model:
    """A ball with a texture around it: its upper half is red, its lower half blue."""
    ball = trimesh.creation.icosphere(subdivisions, 0.9)
    vertices, faces = np.asarray(ball.vertices), np.asarray(ball.faces, np.int32)
    # Seen along z; front and back share the texture, since colours depend on the height alone.
    flat = np.stack([vertices[:, 0], -vertices[:, 1]], axis=1) / 1.9 + 0.5
    return Model(vertices, faces, uv=flat[faces].astype(np.float32), color_png=two_halves())


def two_halves() -> bytes:
    picture = Image.new("RGB", (SIZE, SIZE), (220, 30, 30))
    picture.paste((30, 30, 220), (0, SIZE // 2, SIZE, SIZE))
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    return buffer.getvalue()


def colored(model: Model) -> Model:
    """The same with colours at its vertices instead: red, green and blue by where they lie."""
    colors = np.rint((model.vertices + 1.0) * 127.0).astype(np.uint8)
    return Model(model.vertices, model.faces, colors=colors)


def plain(model: Model) -> Model:
    return Model(model.vertices, model.faces)


def written(model: Model, name: str, folder: Path, **wanted: object) -> Path:
    """The model's file in a format, and those beside it."""
    files, _ = files_of(model, None, Wanted([name], "mesh", **wanted))  # type: ignore[arg-type]
    for file in files:
        (folder / file.name).write_bytes(file.content)
    return folder / f"mesh.{name}"
