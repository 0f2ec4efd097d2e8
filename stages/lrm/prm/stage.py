"""Stages `prm.reference` and `prm.reconstruct`: one model behind two nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stages.contract import ArtifactSpec, Context, Stage
from stages.contract.artifacts import BUNDLE, BUNDLE_MASK, COARSE_MESH, REFERENCE_BUNDLE, VIEWS
from stages.lrm.prm.params import ModelParams, ReconstructParams, ReferenceParams
from stages.models.kernels import backends
from stages.weights.catalogue import find_file, locate

if TYPE_CHECKING:
    from stages.geometry.raster import Rasterizer
    from stages.lrm.prm.masks import Matting
    from stages.lrm.prm.model import Prm

MATTING_WEIGHTS = "u2net"
TEXTURED = ArtifactSpec(
    "coarse_textured",
    "file",
    "the coarse mesh with a UV texture instead of vertex colours, binary glTF",
    suffix=".glb",
    filename="coarse_mesh.glb",
    optional=True,
)


class PrmStage(Stage):
    """What both nodes share: the model.

    dtype float16 or bfloat16 makes encoder and transformer half on a GPU; the CPU computes in
    float32, and so does everything behind the triplanes everywhere.
    """

    params: ModelParams
    preload = ("numpy", "torch", "stages.geometry.jit_ready")

    @classmethod
    def weights(cls, params: Any) -> tuple[str, ...]:
        return (params.weights,)

    @classmethod
    def uses_seed(cls, params: Any) -> bool:
        return False

    def load(self, context: Context) -> None:
        """Raises StageError (missing_weights) if the checkpoint is not there or does not fit."""
        import torch

        from stages.lrm.prm.model import load_prm

        on_gpu = context.device.startswith("cuda")
        if not on_gpu:
            torch.set_num_threads(context.threads)
        dtype = getattr(torch, context.dtype) if on_gpu else torch.float32
        self._model: Prm = load_prm(find_file(self.params.weights), context.device, dtype)


class PrmReference(PrmStage):
    """Turns four views into a mesh and joins them with its normal maps.

    Raises StageError (internal) if the model finds no object in the views.
    """

    name = "prm.reference"
    summary = "reference bundle from four views with the PRM model"
    inputs = (VIEWS,)
    outputs = (REFERENCE_BUNDLE,)
    Params = ReferenceParams
    params: ReferenceParams

    def load(self, context: Context) -> None:
        from stages.geometry.raster import open_rasterizer

        super().load(context)
        # Ours on the CPU takes milliseconds a view, and no VRAM.
        self._rasterizer: Rasterizer = open_rasterizer("cpu", threads=context.threads)

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        from stages.lrm.prm.reference import reference_bundle

        with backends(self.params):
            bundle = reference_bundle(
                inputs[VIEWS.name], self._model, self.params, self._rasterizer, context.progress
            )
        return {REFERENCE_BUNDLE.name: bundle}


class PrmReconstruct(PrmStage):
    """Turns the RGB row of a bundle into a coloured coarse mesh, and says what it took as object.

    Raises StageError: bad_input if the bundle shows no object, internal if the model finds none.
    """

    name = "prm.reconstruct"
    summary = "coarse mesh from a bundle with the PRM model"
    inputs = (BUNDLE,)
    outputs = (COARSE_MESH, BUNDLE_MASK, TEXTURED)
    Params = ReconstructParams
    params: ReconstructParams

    @classmethod
    def weights(cls, params: Any) -> tuple[str, ...]:
        matting = (MATTING_WEIGHTS,) if params.mask == "u2net" else ()
        return (*super().weights(params), *matting)

    @classmethod
    def optional_weights(cls, params: Any) -> tuple[str, ...]:
        return (MATTING_WEIGHTS,) if params.mask == "auto" else ()

    def load(self, context: Context) -> None:
        """As `PrmStage.load`, and StageError (missing_dependency) if a texture cannot be made."""
        if self.params.texture_size:
            from stages.lrm.prm.texture import require_xatlas

            require_xatlas()
        super().load(context)
        self._matting: Matting | None = None
        wanted = self.params.mask
        if wanted == "u2net" or (wanted == "auto" and locate(MATTING_WEIGHTS)):
            from stages.models.matting import load_matting

            self._matting = load_matting(MATTING_WEIGHTS, context.threads).mask

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        from stages.lrm.prm.masks import to_image
        from stages.lrm.prm.reconstruct import STEPS, reconstruct

        with backends(self.params):
            mesh, mask, field = reconstruct(
                inputs[BUNDLE.name], self._model, self._matting, self.params, context.progress
            )
        outputs: dict[str, Any] = {COARSE_MESH.name: mesh, BUNDLE_MASK.name: to_image(mask)}
        if size := self.params.texture_size:
            from stages.geometry.raster import open_rasterizer
            from stages.lrm.prm.texture import textured_glb

            context.progress(STEPS - 1, STEPS, "texture")
            rasterizer = open_rasterizer("cpu", threads=context.threads)
            outputs[TEXTURED.name] = textured_glb(field, mesh, size, rasterizer)
        context.progress(STEPS, STEPS)
        return outputs
