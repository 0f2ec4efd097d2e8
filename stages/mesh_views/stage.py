"""Stage "mesh_views": a mesh of the user's -> the reference bundle that the cameras see of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from stages import contract
from stages.contract import BadInput, Context, Mesh
from stages.contract.artifacts import (
    ALPHA,
    GIVEN_MESH,
    GIVEN_PLACE,
    GIVEN_UV,
    IMAGE,
    INPUT_MESH,
    REFERENCE_BUNDLE,
)
from stages.mesh_views.params import MeshViewsParams

if TYPE_CHECKING:
    from stages.geometry.raster import Rasterizer
    from stages.mesh_views.drawing import Drawing, Tile
    from stages.mesh_views.surface import Surface

STEPS = 7
"""Read, place, one for each of four cameras, hand over."""
INSIDE_OUT = 0.5
SOME_INSIDE = 0.05
"""Shares of what the cameras see that is the inner side of a face: from where on the mesh is turned
round, and from where on people are told."""
SIDES = ("front", "left", "back", "right")


class MeshViews(contract.Stage):
    """Reads a mesh file, brings it to the bundle's size, and draws its colours and normals, on the
    CPU.

    Raises `BadInput` for whatever is wrong with the file.
    """

    name = "mesh_views"
    version = 1
    summary = "the reference bundle of a mesh of one's own: GLB, glTF, OBJ, PLY or STL"
    inputs = (INPUT_MESH,)
    outputs = (REFERENCE_BUNDLE, IMAGE, ALPHA, GIVEN_MESH, GIVEN_PLACE, GIVEN_UV)
    Params: ClassVar[type[contract.Params]] = MeshViewsParams
    preload = ("numpy", "PIL.Image", "scipy.sparse.csgraph", "stages.geometry.jit_ready")

    params: MeshViewsParams

    @classmethod
    def uses_seed(cls, params: MeshViewsParams) -> bool:
        return False

    def load(self, context: Context) -> None:
        """Compile the rasteriser."""
        from stages.geometry.raster import open_rasterizer, rehearse

        self._rasterizer: Rasterizer = open_rasterizer("cpu", threads=context.threads)
        rehearse(self._rasterizer)

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        """Input `input_mesh` (bytes); outputs `reference_bundle` (2 S, 4 S, 3) float32, its front
        view as `image` (S, S, 3) and `alpha` (S, S, 1) uint8, `given_mesh` with `given_place`, and
        `given_uv` where the mesh has texture coordinates everywhere."""
        import numpy as np

        from stages.geometry.bundle import join
        from stages.mesh_views.drawing import inside_share, vertex_colors
        from stages.mesh_views.given import open_given
        from stages.mesh_views.pictures import decode_all
        from stages.mesh_views.placing import placed
        from stages.mesh_views.read import read_surface
        from stages.mesh_views.told import Told

        params, told = self.params, Told(context.warn)
        context.progress(0, STEPS, "read")
        given = open_given(inputs[INPUT_MESH.name], params.max_bytes)
        surface = read_surface(given, params.max_faces, told)
        if not surface.colored:
            told.once("the mesh has no colours: it is taken as grey")
        up, front = params.axes(given.kind)
        context.progress(1, STEPS, f"{len(surface.corners):,} faces, {up} up, front {front}")
        surface, place = placed(surface, up, front)
        textures = decode_all(surface.materials, params.max_pixels, told)
        drawing = self._drawing(surface, textures)
        tiles = self._tiles(drawing, context)
        share = inside_share(tiles)
        if share > INSIDE_OUT:  # its normals are turned to the cameras anyway
            surface, share = surface.turned_inside_out(), 1.0 - share
        if share > SOME_INSIDE:
            told.once(
                f"{share:.0%} of what the cameras see is the inner side of faces: the mesh is "
                "open, or its faces are turned both ways"
            )
        front_view = tiles[0]
        bundle = join(
            np.stack([tile.color for tile in tiles]), np.stack([tile.normal for tile in tiles])
        )
        outputs = {
            REFERENCE_BUNDLE.name: np.ascontiguousarray(np.clip(bundle, 0.0, 1.0), np.float32),
            IMAGE.name: np.rint(np.clip(front_view.color, 0.0, 1.0) * 255.0).astype(np.uint8),
            ALPHA.name: np.rint(front_view.cover[..., None] * 255.0).astype(np.uint8),
            GIVEN_MESH.name: Mesh(
                surface.points.astype(np.float32),
                surface.corners,
                vertex_colors(surface, textures),
            ),
        }
        if np.isfinite(place).all():
            outputs[GIVEN_PLACE.name] = place
        if surface.uv is not None and surface.has_uv:
            outputs[GIVEN_UV.name] = surface.uv
        context.progress(STEPS, STEPS)
        return outputs

    def _drawing(self, surface: Surface, textures: Any) -> Drawing:
        from stages.geometry.creased_normals import creased_normals
        from stages.geometry.render import vertex_normals
        from stages.mesh_views.drawing import Drawing

        if self.params.normals == "smooth":
            normals = vertex_normals(surface.points, surface.corners)[surface.corners]
        elif surface.normals is not None:
            normals = surface.normals
        else:
            normals = creased_normals(surface.points, surface.corners)
        light = self.params.light
        if light == "auto":  # of a shape without colours, even light would show an outline alone
            light = "even" if surface.colored else "soft"
        return Drawing(surface, normals, textures, light, self.params.normal_encoding)

    def _tiles(self, drawing: Drawing, context: Context) -> list[Tile]:
        """One of each camera. Raises BadInput where none shows the mesh."""
        import numpy as np

        from stages.geometry.cameras import bundle_cameras

        tiles = []
        for number, camera in enumerate(bundle_cameras(self.params.radius)):
            context.progress(2 + number, STEPS, SIDES[number])
            tiles.append(drawing.tile(camera, self.params.size, self._rasterizer))
        blank = [side for side, tile in zip(SIDES, tiles, strict=True) if not np.any(tile.cover)]
        if len(blank) == len(SIDES):
            raise BadInput(
                "no camera sees anything of the mesh",
                "It may be flat and lying: set the mesh_views params up and front.",
            )
        if blank:
            context.warn(f"the mesh is too thin to be seen from: {', '.join(blank)}")
        return tiles
