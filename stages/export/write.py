"""Files of a model in the formats that were asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from stages.contract import BadInput, Mesh
from stages.contract.mesh_formats import FORMATS, PRINT_HEIGHT, MeshFormat
from stages.export.model import Corners, Model, vertex_colors
from stages.export.read import texels_of
from stages.export.reduce import reduced
from stages.export.solid import closed
from stages.isomer import export

LONGEST_PRINT = 300.0
"""Millimetres: beds of most printers have 180 to 300."""


@dataclass(frozen=True)
class Wanted:
    """What was asked for.

    formats  names in FORMATS
    stem     of the files' names
    height   metres along the up axis; None: as the mesh is, and PRINT_HEIGHT for printing
    faces    no more than these; None: all
    y_up     files for printing keep y up
    threads  CPU threads to keep to
    """

    formats: Sequence[str]
    stem: str
    height: float | None = None
    faces: int | None = None
    y_up: bool = False
    threads: int = 2


@dataclass(frozen=True)
class Written:
    """A file and what it holds; one that goes with another one's name (a texture) has no faces."""

    name: str
    format: str
    content: bytes
    faces: int = 0
    size: tuple[float, ...] = ()
    unit: str = ""


def files_of(model: Model, fine: Model | None, wanted: Wanted) -> tuple[list[Written], list[str]]:
    """The files, and sentences on what they lack. fine: the same in more faces, without a texture,
    for the formats that hold none.

    Raises BadInput for a mesh without height, NotClosedError for one that cannot be printed.
    """
    told: dict[str, None] = {}
    sources: dict[bool, Model] = {}

    def source(textured: bool) -> Model:
        if textured not in sources:
            chosen = model if textured or fine is None else fine
            if wanted.faces is not None:
                chosen, more = reduced(chosen, wanted.faces, wanted.threads)
                told.update(dict.fromkeys(more))
            sources[textured] = chosen
        return sources[textured]

    files: list[Written] = []
    for name in wanted.formats:
        made = FORMATS[name]
        ready = _placed(source(name not in ("stl", "ply")), made, wanted)
        if made.for_print:
            ready, more = closed(ready)
            told.update(dict.fromkeys([*more, *_too_wide(ready, wanted)]))
        files += _files(ready, made, wanted)
    return files, list(told)


def _placed(model: Model, made: MeshFormat, wanted: Wanted) -> Model:
    height = wanted.height
    if height is None and made.for_print:
        height = PRINT_HEIGHT
    tall = float(model.size[1])
    if height is not None and not tall > 0.0:
        raise BadInput("the mesh is flat along y, its up axis, so it has no height to scale")
    scale = 1.0 if height is None else height / made.unit / tall
    return model.placed(scale, made.for_print, z_up=made.for_print and not wanted.y_up)


def _too_wide(model: Model, wanted: Wanted) -> Iterator[str]:
    """What is to be said of a print, in mm, whose usual height makes it larger than most printers
    can print."""
    height, longest = PRINT_HEIGHT * 1000.0, float(model.size.max())
    if wanted.height is None and longest > LONGEST_PRINT:
        less = height * height / longest
        yield (
            f"{height:.0f} mm high it is about {round(longest, -1):.0f} mm long: "
            f"--height {less:.2g}mm makes that {height:.0f} mm"
        )


def _files(model: Model, made: MeshFormat, wanted: Wanted) -> list[Written]:
    stem = wanted.stem
    scaled = wanted.height is not None or made.for_print
    unit = {0.001: "mm", 1.0: "m"}[made.unit] if scaled else ""

    def main(content: bytes) -> Written:
        size = tuple(round(float(side), 6) for side in model.size)
        return Written(f"{stem}.{made.name}", made.name, content, len(model.faces), size, unit)

    if made.name == "stl":
        return [main(_trimesh(model.vertices, model.faces).export(file_type="stl"))]
    if made.name == "ply":
        return [main(_ply(model))]
    if made.name == "3mf":
        from stages.export.threemf import three_mf

        return [main(three_mf(model))]
    if made.name == "usdz":
        from stages.export.usdz import usdz

        return [main(usdz(model))]
    corners = Corners(model)
    if made.name == "glb":
        return [main(_glb(corners))]
    if model.uv is None:
        return [main(_plain_obj(corners))]
    names = f"{stem}.mtl", f"{stem}_color.png", f"{stem}_normal.png"
    beside = [
        (names[0], export.material(bool(model.normal_png), names[1], names[2])),
        (names[1], model.color_png),
        (names[2], model.normal_png),
    ]
    obj = export.textured_obj(corners, material_file=names[0])
    return [main(obj), *(Written(name, "obj", content) for name, content in beside if content)]


def _glb(corners: Corners) -> bytes:
    if corners.model.uv is not None:
        return export.textured_glb(corners)
    if corners.colors is not None:
        return export.glb(_mesh(corners), corners.normals)
    plain = _trimesh(corners.vertices, corners.faces, corners.normals)
    return bytes(plain.export(file_type="glb", include_normals=True))


def _plain_obj(corners: Corners) -> bytes:
    if corners.colors is not None:
        return export.obj(_mesh(corners), corners.normals)
    plain = _trimesh(corners.vertices, corners.faces, corners.normals)
    return str(plain.export(file_type="obj", include_normals=True)).encode()


def _mesh(corners: Corners) -> Mesh:
    return Mesh(corners.vertices, corners.faces, corners.colors)


def _ply(model: Model) -> bytes:
    from trimesh.exchange.ply import export_ply

    colors = model.colors
    if model.uv is not None:
        colors = vertex_colors(model, texels_of(model.color_png))
    smooth = Model(model.vertices, model.faces, colors=colors)
    mesh = _trimesh(model.vertices, model.faces, Corners(smooth).normals)
    if colors is not None:
        mesh.visual.vertex_colors = colors
    return bytes(export_ply(mesh, encoding="binary", vertex_normal=True))


def _trimesh(vertices: Any, faces: Any, normals: Any = None) -> Any:
    import trimesh

    return trimesh.Trimesh(vertices, faces, vertex_normals=normals, process=False)
