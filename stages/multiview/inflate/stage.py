"""Stage `inflate`: four views of an object from one picture, without a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stages.contract import Context, Stage
from stages.contract.artifacts import ALPHA, IMAGE, VIEW_NORMALS, VIEWS
from stages.multiview.inflate.params import InflateParams

if TYPE_CHECKING:
    from stages.geometry.raster import Rasterizer


class Inflate(Stage):
    """Blow the silhouette up into a closed body and look at it from four sides.

    The front view is the picture, resampled, and smaller where the body would not fit into the
    other views. Sides and back are plausible, not known. Raises
    StageError (bad_input) if the picture shows no object.
    """

    name = "inflate"
    version = 3
    summary = "four views by inflating the silhouette: no weights, no GPU, a second"
    inputs = (IMAGE, ALPHA)
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
        from stages.multiview.inflate.views import make_views

        context.progress(0, 1, "inflating the silhouette")
        views, normals = make_views(
            inputs[IMAGE.name],
            inputs[ALPHA.name],
            self.params,
            self._rasterizer,
        )
        context.progress(1, 1)
        return {VIEWS.name: views, VIEW_NORMALS.name: normals}
