"""The retexture stage: a given mesh keeps its shape and takes the colours of a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from stages.contract import ArtifactSpec, Context, Mesh, Params, Stage, artifacts
from stages.isomer.color_params import ColorParams

if TYPE_CHECKING:
    import numpy as np

    from stages.geometry.raster import Rasterizer

STEPS = 5


class RetextureParams(ColorParams):
    """Colouring and export of a mesh whose shape is given."""

    radius: float = Field(
        4.5, gt=1.5, le=20.0, description="Camera distance of the bundle: that of mesh_views."
    )
    layout: Literal["given", "new"] = Field(
        "given",
        description="Texture coordinates. given: the mesh's own, where each face has a place for "
        "itself in them, else new ones; new: always new ones.",
    )
    place: Literal["given", "bundle"] = Field(
        "given",
        description="Size and position of the mesh in files. given: those of the given file, y up; "
        "bundle: the bundle's, centred, the longest side 1.8.",
    )
    color_faces: int = Field(
        150_000,
        ge=1_000,
        le=5_000_000,
        description="Faces of the finer mesh of the same shape that colours are found for.",
    )
    min_edge: float = Field(
        0.0025,
        ge=0.0,
        le=1.0,
        description="Edges up to this share of the bounding-box diagonal are not cut for it.",
    )


class Retexture(Stage):
    """Projects the bundle's colours onto the given mesh as isomer does onto its own, and bakes them
    into a texture. No vertex moves and no face is lost. Files have the given size and position, the
    artifact `mesh` the bundle's."""

    name: ClassVar[str] = "retexture"
    version: ClassVar[int] = 4
    summary: ClassVar[str] = "the bundle's colours on a given mesh, whose shape stays as it is"
    inputs: ClassVar[tuple[ArtifactSpec, ...]] = (
        artifacts.BUNDLE,
        artifacts.GIVEN_MESH,
        artifacts.GIVEN_UV,
        artifacts.GIVEN_PLACE,
    )
    outputs: ClassVar[tuple[ArtifactSpec, ...]] = (
        artifacts.MESH,
        artifacts.GLB,
        artifacts.OBJ,
        artifacts.OBJ_MATERIAL,
        artifacts.TEXTURE,
        artifacts.FULL_MESH,
        artifacts.RENDERS,
    )
    Params: ClassVar[type[Params]] = RetextureParams
    preload: ClassVar[tuple[str, ...]] = (
        "numpy",
        "stages.geometry.jit_ready",
        "scipy.ndimage",
        "scipy.sparse",
        "scipy.sparse.csgraph",
        "scipy.spatial",
        "cv2",
        "PIL.PngImagePlugin",
    )

    params: RetextureParams

    @classmethod
    def uses_seed(cls, params: RetextureParams) -> bool:
        return False

    def load(self, context: Context) -> None:
        """Open the rasteriser. Raises StageError if the chosen one cannot run here."""
        from stages.geometry.raster import open_rasterizer, rehearse

        self._rasterizer: Rasterizer = open_rasterizer(
            self.params.rasterizer, context.device, context.threads
        )
        rehearse(self._rasterizer)

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        """See the class. Raises BadInput for a bundle that cannot be used, or shows nothing of the
        mesh."""
        from stages.isomer.coloring import color_vertices, color_views
        from stages.isomer.files import colored_files, moved_back, put_back, textured_files
        from stages.isomer.pictures import draw_textured, look_around, render_views
        from stages.isomer.texture.given import refined, repaint, split_at
        from stages.isomer.tiles import outline, tiles_of

        params = self.params
        given: Mesh = inputs[artifacts.GIVEN_MESH.name]
        place = inputs.get(artifacts.GIVEN_PLACE.name) if params.place == "given" else None
        rgb, normal_tiles = tiles_of(inputs[artifacts.BUNDLE.name])
        views = color_views(
            rgb, outline(normal_tiles, params.background_tolerance), params, context.threads
        )

        context.progress(0, STEPS, "lay flat")
        uv = self._layout(given, inputs.get(artifacts.GIVEN_UV.name), context)
        split = split_at(given, _nowhere(given) if uv is None else uv)
        fine = refined(split, max(params.color_faces, len(given.faces)), params.min_edge)

        context.progress(1, STEPS, "color")
        coloring = color_vertices(
            fine.joined.vertices,
            fine.joined.faces,
            fine.normals,
            views,
            self._rasterizer,
            params,
            context.threads,
        )
        mesh = Mesh(fine.joined.vertices, fine.joined.faces, coloring.colors)
        seeing = (params.render_size, params.radius, self._rasterizer, context.threads)
        context.progress(2, STEPS, "texture")
        painted = None
        if uv is not None:
            painted = repaint(
                split,
                fine,
                coloring,
                views,
                params,
                context.threads,
                lambda: context.progress(3, STEPS, "bake"),
            )
        context.progress(4, STEPS, "render")
        if painted is None:
            renders = render_views(mesh, *seeing)
            files = colored_files(put_back(mesh, place), fine.normals, params.axes)
        else:
            looks = look_around(painted.vertices, painted.faces, painted.uv, *seeing)
            renders = draw_textured(looks, painted.colors, context.threads)
            painted = replace(painted, vertices=moved_back(painted.vertices, place))
            files = textured_files(painted, put_back(mesh, place), fine.normals, params.axes)
        context.progress(STEPS, STEPS)
        return {artifacts.MESH.name: mesh, **files, artifacts.RENDERS.name: renders}

    def _layout(self, mesh: Mesh, given: np.ndarray | None, context: Context) -> np.ndarray | None:
        """(F, 3, 2) texture coordinates; None, and a word about it, where there can be none."""
        from stages.isomer.texture.given import new_layout, why_not
        from stages.isomer.texture.unwrap import CannotUnwrapError

        size, threads = self.params.texture_size, context.threads
        if given is not None and self.params.layout == "given":
            reason = why_not(given, mesh, size, threads)
            if not reason:
                return given
            context.warn(f"the mesh's own texture coordinates are not used: {reason}")
        try:
            return new_layout(mesh, size, threads)
        except CannotUnwrapError as error:
            context.warn(f"no texture, but colours at the vertices: {error}", degraded=True)
            return None


def _nowhere(mesh: Mesh) -> np.ndarray:
    import numpy as np

    return np.zeros((len(mesh.faces), 3, 2), np.float32)
