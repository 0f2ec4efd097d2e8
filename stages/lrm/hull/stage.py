"""Stages `hull.reference` and `hull.reconstruct`: the LRM's two nodes without a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stages.contract import Context, Stage
from stages.contract.artifacts import (
    BUNDLE,
    COARSE_MESH,
    KNOWN_BODY,
    REFERENCE_BUNDLE,
    VIEW_NORMALS,
    VIEWS,
)
from stages.lrm.hull.params import HullParams, ReferenceParams
from stages.models.sketch_net import WEIGHTS
from stages.models.sketch_net.opening import See, missing, open_or_say_why

HEAVY = (
    "numpy",
    "cv2",
    "scipy.ndimage",
    "scipy.sparse.linalg",
    "skimage.measure",
    "stages.geometry.jit_ready",
)


class HullReference(Stage):
    """Joins views and their normals to a bundle; makes the normals where there are none.

    Raises StageError (bad_input) if normals are to be made and a view shows no object, or the
    views do not fit together; (missing_weights) with `normals: network` where its files cannot be
    read.
    """

    name = "hull.reference"
    version = 5
    summary = "reference bundle from four views: no weights, no GPU"
    inputs = (VIEWS, VIEW_NORMALS)
    outputs = (REFERENCE_BUNDLE,)
    Params = ReferenceParams
    preload = HEAVY
    params: ReferenceParams

    @classmethod
    def uses_seed(cls, params: ReferenceParams) -> bool:
        return False

    @classmethod
    def optional_weights(cls, params: ReferenceParams) -> tuple[str, ...]:
        return () if params.normals == "silhouette" else (str(WEIGHTS),)

    def load(self, context: Context) -> None:
        """Compile, for hull.reconstruct too, which finds the code on the disk; see `rehearse`."""
        from stages.geometry.normal_fusion.reconstruct import rehearse

        rehearse(context.threads)

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        from stages.lrm.hull.reference import normals_of_views, to_bundle

        views, normals = inputs[VIEWS.name], inputs.get(VIEW_NORMALS.name)
        if normals is None:
            see = self._network(context)
            normals = normals_of_views(views, self.params, context.threads, context.progress, see)
        context.progress(1, 1)
        return {REFERENCE_BUNDLE.name: to_bundle(views, normals)}

    def _network(self, context: Context) -> See | None:
        """Read where it is needed alone: most views come with their normals."""
        wanted = self.params.normals
        if wanted == "silhouette":
            return None
        see, why_not = open_or_say_why(WEIGHTS, wanted == "network", "reference.normals=silhouette")
        if why_not:
            context.warn(missing("the views' normals", why_not), degraded=True)
        return see


class HullReconstruct(Stage):
    """Carves and fuses the bundle's silhouettes and normal maps into a closed coarse mesh.

    Its silhouettes at the bundle's cameras are those of the normal tiles. A body that the views
    are known to be pictures of is taken as it is: voxels and four silhouettes would only lose thin
    parts of it, and what lies in hollows. Raises StageError (bad_input) if a normal tile shows no
    object or the tiles do not fit together.
    """

    name = "hull.reconstruct"
    version = 5
    summary = "coarse mesh from silhouettes and normal maps: no weights, no GPU, seconds"
    inputs = (BUNDLE, KNOWN_BODY)
    outputs = (COARSE_MESH,)
    Params = HullParams
    preload = HEAVY
    params: HullParams

    @classmethod
    def uses_seed(cls, params: HullParams) -> bool:
        return False

    def load(self, context: Context) -> None:
        """Compile; see `rehearse`."""
        from stages.geometry.normal_fusion.reconstruct import rehearse

        rehearse(context.threads)

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        if (body := inputs.get(KNOWN_BODY.name)) is not None and self.params.known_body:
            context.progress(1, 1)
            return {COARSE_MESH.name: body}

        from stages.geometry.normal_fusion.reconstruct import reconstruct
        from stages.lrm.hull.pieces import fallen_apart

        bundle = inputs[BUNDLE.name]
        mesh = reconstruct(bundle, self.params, context.threads, context.progress)
        if told := fallen_apart(mesh, bundle):
            context.warn(told)
        context.progress(1, 1)
        return {COARSE_MESH.name: mesh}
