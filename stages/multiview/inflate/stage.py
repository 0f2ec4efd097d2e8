"""Stage `inflate`: four views of an object from one picture, without a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stages.contract import Context, Stage
from stages.contract.artifacts import ALPHA, GIVEN_VIEWS, IMAGE, VIEW_NORMALS, VIEWS
from stages.multiview.inflate.params import InflateParams

if TYPE_CHECKING:
    from stages.geometry.raster import Rasterizer


class Inflate(Stage):
    """Blow the silhouette up into a closed body and look at it from four sides.

    The front view is the picture, resampled, and smaller where the body would not fit into the
    other views. Sides and back are plausible, not known, unless they are given: then they have the
    colours of their pictures, and the body has all outlines. Raises StageError (bad_input) if a
    picture shows no object, or no body has the outlines.
    """

    name = "inflate"
    version = 3
    summary = "four views by inflating the silhouette: no weights, no GPU, a second"
    inputs = (IMAGE, ALPHA, GIVEN_VIEWS)
    outputs = (VIEWS, replace(VIEW_NORMALS, optional=False))
    Params = InflateParams
    preload = ("numpy", "cv2", "scipy.sparse.linalg", "stages.geometry.jit_ready")
    params: InflateParams

    @classmethod
    def uses_seed(cls, params: InflateParams) -> bool:
        return False

    def load(self, context: Context) -> None:
        """Open the rasteriser, which a machine's first start compiles."""
        from stages.geometry.raster import open_rasterizer, rehearse

        self._rasterizer: Rasterizer = open_rasterizer("cpu", threads=context.threads)
        rehearse(self._rasterizer)

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        from stages.multiview.inflate.several import Tools, make_several
        from stages.multiview.inflate.views import make_views

        context.progress(0, 1, "inflating the silhouette")
        image, alpha = inputs[IMAGE.name], inputs[ALPHA.name]
        given = inputs.get(GIVEN_VIEWS.name)
        if given is None:
            views, normals = make_views(image, alpha, self.params, self._rasterizer)
        else:
            tools = Tools(self.params, self._rasterizer, context.threads, context.warn)
            views, normals = make_several(image, alpha, given, tools)
        context.progress(1, 1)
        return {VIEWS.name: views, VIEW_NORMALS.name: normals}
