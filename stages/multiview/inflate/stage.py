"""Stage `inflate`: four views of an object from one picture, without large weights or a card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stages.contract import Context, Stage
from stages.contract.artifacts import ALPHA, BODY, GIVEN_VIEWS, IMAGE, VIEW_NORMALS, VIEWS
from stages.models.sketch_net import WEIGHTS
from stages.models.sketch_net.opening import See, missing, open_or_say_why
from stages.multiview.inflate.params import InflateParams

if TYPE_CHECKING:
    from stages.geometry.raster import Rasterizer


class Inflate(Stage):
    """Make a closed body of the picture and look at it from four sides.

    The small network tells how far its front lies, how thick it is behind that, and what given
    sides face; without it silhouettes are blown up. The body goes along, but of given sides.

    The front view is the picture, resampled, without the dark line round a drawing, and smaller
    where the body would not fit into the other views; what leans is stood up, and its front view is
    one of the body. Sides and back are plausible, not known, unless they are given: then they have
    the colours of their pictures, and the body has all outlines. Raises StageError (bad_input) if a
    picture shows no object, or no body has the outlines.
    """

    name = "inflate"
    version = 13
    summary = "four views of a body that a small network or the silhouette tells: no GPU, seconds"
    inputs = (IMAGE, ALPHA, GIVEN_VIEWS)
    outputs = (VIEWS, replace(VIEW_NORMALS, optional=False), BODY)
    Params = InflateParams
    preload = (
        "numpy",
        "cv2",
        "scipy.ndimage",
        "scipy.sparse.linalg",
        "stages.geometry.jit_ready",
    )
    params: InflateParams

    @classmethod
    def uses_seed(cls, params: InflateParams) -> bool:
        return False

    @classmethod
    def optional_weights(cls, params: InflateParams) -> tuple[str, ...]:
        return () if params.shape == "silhouette" else (str(WEIGHTS),)

    def load(self, context: Context) -> None:
        """Open the rasteriser, which a machine's first start compiles, and read the network.

        Raises StageError (missing_weights) with `shape: network` where its files cannot be read.
        """
        from stages.geometry.raster import open_rasterizer, rehearse

        self._rasterizer: Rasterizer = open_rasterizer("cpu", threads=context.threads)
        rehearse(self._rasterizer)
        self._see: See | None = None
        self._why_not = ""
        if self.params.shape != "silhouette":
            self._see, self._why_not = open_or_say_why(
                WEIGHTS,
                self.params.shape == "network",
                "multiview.shape=silhouette",
            )

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        from stages.multiview.inflate.several import Tools, make_several
        from stages.multiview.inflate.views import make_views

        context.progress(0, 1, "the body")
        image, alpha = inputs[IMAGE.name], inputs[ALPHA.name]
        given = inputs.get(GIVEN_VIEWS.name)
        if self._why_not:
            context.warn(missing("the body's shape", self._why_not), degraded=True)
        if given is None:
            made = make_views(image, alpha, self.params, self._rasterizer, self._see)
        else:
            tools = Tools(self.params, self._rasterizer, context.threads, context.warn, self._see)
            made = make_several(image, alpha, given, tools)
        note = ""
        if made.stood:
            seen = "above" if made.stood > 0.0 else "its own height"
            note = (
                f"seen from {seen}, stood up by {abs(made.stood):.0f} degrees"
                " (--set multiview.upright=false leaves it)"
            )
        context.progress(1, 1, note)
        outputs = {VIEWS.name: made.views, VIEW_NORMALS.name: made.normals}
        return outputs if made.body is None else {**outputs, BODY.name: made.body}
