"""The isomer stage: bundle and coarse mesh in, refined coloured mesh, files and pictures out."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar

from stages.contract import ArtifactSpec, BadInput, Context, Mesh, Params, Stage, artifacts
from stages.isomer.params import IsomerParams

if TYPE_CHECKING:
    import numpy as np

    from stages.geometry.raster import Rasterizer
    from stages.isomer.coloring import Coloring
    from stages.isomer.pictures import Seen
    from stages.isomer.projection import View
    from stages.isomer.texture.make import Flat, Textured

STEPS = 6
"""After refinement."""


class Isomer(Stage):
    """Fit the mesh to the bundle's normal maps, clean it, colour it, reduce and texture it, export.

    Runs the same code on every device.
    """

    name: ClassVar[str] = "isomer"
    version: ClassVar[int] = 12
    summary: ClassVar[str] = (
        "refines the mesh with the bundle, textures it and writes GLB, OBJ, PLY and previews"
    )
    inputs: ClassVar[tuple[ArtifactSpec, ...]] = (
        artifacts.BUNDLE,
        artifacts.COARSE_MESH,
        artifacts.BUNDLE_MASK,
    )
    outputs: ClassVar[tuple[ArtifactSpec, ...]] = (
        artifacts.MESH,
        artifacts.GLB,
        artifacts.OBJ,
        artifacts.OBJ_MATERIAL,
        artifacts.TEXTURE,
        artifacts.NORMAL_MAP,
        artifacts.FULL_MESH,
        artifacts.RENDERS,
    )
    Params: ClassVar[type[Params]] = IsomerParams
    preload: ClassVar[tuple[str, ...]] = (
        "numpy",
        "stages.geometry.jit_ready",
        "scipy.ndimage",
        "scipy.sparse",
        "scipy.sparse.csgraph",
        "scipy.spatial",
        "cv2",
        "fast_simplification",
        "PIL.PngImagePlugin",
        "torch",
    )

    @classmethod
    def preloads(cls, params: IsomerParams) -> tuple[str, ...]:
        """Without torch, which takes seconds, where most meshes are not refined."""
        unlikely = {"torch"} if params.refine_above else set()
        return tuple(name for name in cls.preload if name not in unlikely)

    @classmethod
    def uses_seed(cls, params: IsomerParams) -> bool:
        """The lottery among edges in remeshing is the same in every run."""
        return False

    def load(self, context: Context) -> None:
        """Open the rasteriser. Raises StageError if the chosen one cannot run here."""
        from stages.geometry.raster import open_rasterizer, rehearse

        self._rasterizer: Rasterizer = open_rasterizer(
            self._params.rasterizer, context.device, context.threads
        )
        rehearse(self._rasterizer)

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        """See the class. Raises BadInput for a bundle or mesh that cannot be used."""
        from stages.geometry.render import vertex_normals
        from stages.isomer.cleaning import clean
        from stages.isomer.coloring import color_vertices, color_views
        from stages.isomer.files import colored_files, textured_files
        from stages.isomer.pictures import draw_textured, render_views
        from stages.isomer.tiles import outline, tiles_of

        params = self._params
        coarse: Mesh = inputs[artifacts.COARSE_MESH.name]
        rgb, normal_tiles = tiles_of(inputs[artifacts.BUNDLE.name])
        given = _given_mask(inputs, rgb.shape) if params.silhouettes == "given" else None
        mask = given
        if mask is None:
            mask = outline(normal_tiles, params.background_tolerance)
        refining = params.stage1_steps + params.stage2_steps
        if refining and params.refine_above:
            agrees = self._agrees(coarse, normal_tiles, mask, context.threads)
            refining = 0 if agrees else refining
        steps = refining + STEPS
        if refining:
            from stages.isomer.refine.refine import refine

            def report(step: int, note: str) -> None:
                context.progress(step, steps, f"refine: {note}")

            coarse = refine(coarse, normal_tiles, params, self._rasterizer, context, report, given)

        context.progress(refining + 1, steps, "clean")
        smooth = _may_smooth(params, refining > 0)
        vertices, faces = clean(
            coarse.vertices,
            coarse.faces,
            params.smooth_iterations if smooth else 0,
            params.subdivisions,
            params.min_edge,
            params.target_faces,
            keep_shape=not smooth,
            non_manifold=params.non_manifold,
        )
        if not len(faces):
            raise BadInput("coarse_mesh: all its faces are degenerate")
        normals = vertex_normals(vertices, faces)

        context.progress(refining + 2, steps, "color")
        with ThreadPoolExecutor(2, thread_name_prefix="isomer") as beside:
            # Laid flat and compared while colours are found, seen while the texture is painted.
            flat = None
            if params.texture == "baked":
                flat = beside.submit(_flat, vertices, faces, normals, params, context.threads)
            missing = beside.submit(
                _missing, vertices, faces, rgb[0], mask[0], params.radius, self._rasterizer
            )
            views = color_views(rgb, mask, params, context.threads)
            coloring = color_vertices(
                vertices, faces, normals, views, self._rasterizer, params, context.threads
            )
            mesh = Mesh(vertices, faces, coloring.colors)
            seeing = (params.render_size, params.radius, self._rasterizer, context.threads)
            looks = beside.submit(_look_around, flat, *seeing) if flat is not None else None
            _warn_of_missing(missing.result(), context)
            context.progress(refining + 3, steps, "texture")
            textured = None
            if flat is not None:
                textured = _textured(mesh, normals, flat, coloring, views, params, context)

            context.progress(refining + 4, steps, "export")
            if textured is None or looks is None:
                drawn = beside.submit(render_views, mesh, *seeing)
                files = colored_files(mesh, normals, params.axes)
            else:
                drawn = beside.submit(
                    draw_textured, looks.result(), textured.colors, context.threads
                )
                files = textured_files(textured, mesh, normals, params.axes)
            context.progress(refining + 5, steps, "render")
            renders = drawn.result()
        context.progress(steps, steps)
        return {artifacts.MESH.name: mesh, **files, artifacts.RENDERS.name: renders}

    def _agrees(self, mesh: Mesh, normal_tiles: np.ndarray, mask: np.ndarray, threads: int) -> bool:
        from stages.geometry.cameras import bundle_cameras, decode_normals
        from stages.isomer.check import disagreement

        cameras = bundle_cameras(self._params.radius)
        angle = disagreement(
            mesh.vertices,
            mesh.faces,
            lambda k, inside: decode_normals(normal_tiles[k][inside], cameras[k]),
            mask,
            cameras,
            self._rasterizer,
            threads,
        )
        return angle <= self._params.refine_above

    @property
    def _params(self) -> IsomerParams:
        assert isinstance(self.params, IsomerParams)
        return self.params


def _flat(*arguments: Any) -> Flat:
    from stages.isomer.texture.make import lay_flat

    return lay_flat(*arguments)


def _look_around(flat: Future[Flat], *seeing: Any) -> list[Seen]:
    """Raises CannotUnwrapError, as laying flat did."""
    from stages.isomer.pictures import look_around

    laid = flat.result()
    vertices = laid.mesh.vertices[laid.cut.origin]
    return look_around(vertices, laid.cut.faces, laid.cut.uv, *seeing)


def _textured(
    mesh: Mesh,
    normals: np.ndarray,
    flat: Future[Flat],
    coloring: Coloring,
    views: list[View],
    params: IsomerParams,
    context: Context,
) -> Textured | None:
    """The mesh with a texture; None, and a word about it, if it cannot be laid flat."""
    from stages.isomer.texture.make import make_textured
    from stages.isomer.texture.unwrap import CannotUnwrapError

    try:
        laid = flat.result()
        return make_textured(mesh, normals, laid, coloring, views, params, context.threads)
    except CannotUnwrapError as error:
        context.warn(f"no texture, but colours at the vertices: {error}", degraded=True)
        return None


def _missing(*arguments: Any) -> float:
    from stages.isomer.check import missing_share

    return missing_share(*arguments)


def _warn_of_missing(share: float, context: Context) -> None:
    """Say so where much of the front view's silhouette is missing from the mesh."""
    from stages.isomer.check import WORTH_A_WORD

    if share >= WORTH_A_WORD:
        context.warn(
            f"{share:.0%} of the front view's silhouette is missing from the mesh", degraded=True
        )


def _may_smooth(params: IsomerParams, refined: bool) -> bool:
    if params.smooth is not None:
        return params.smooth
    return not (refined and params.objective == "improved")


def _given_mask(inputs: Mapping[str, Any], tiles: tuple[int, ...]) -> np.ndarray:
    """The silhouettes (4, S, S) bool that came with the coarse mesh."""
    given = inputs.get(artifacts.BUNDLE_MASK.name)
    if given is None:
        raise BadInput(
            "silhouettes is `given`, and no stage gave a bundle_mask",
            "set it to `white`, or use a node of stage prm.reconstruct",
        )
    if given.shape[:3] != tiles[:3]:
        raise BadInput(f"bundle_mask has shape {given.shape}, the bundle's tiles {tiles}")
    mask: np.ndarray = given[..., 0] > 127
    return mask
