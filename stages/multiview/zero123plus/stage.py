"""Stage `zero123plus`: four views of an object from one picture, by Zero123++ with FlexGen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from stages.contract import Context, Stage
from stages.contract.artifacts import GIVEN_VIEWS, IMAGE, VIEWS
from stages.models.kernels import backends
from stages.multiview.zero123plus.params import Zero123PlusParams

if TYPE_CHECKING:
    from stages.multiview.zero123plus.model import Zero123Plus


class Zero123PlusStage(Stage):
    """The original's multiview model; docs/stages/multiview.md explains it.

    Given pictures of other sides take the place of what it draws of them; the front stays drawn.
    Raises StageError: missing_weights for files that are absent, damaged or of another model, and
    internal when numbers are not finite.
    """

    name = "zero123plus"
    summary = "four views by diffusion: Zero123++ v1.2 with FlexGen's UNet, made for a GPU"
    inputs = (IMAGE, GIVEN_VIEWS)
    outputs = (VIEWS,)
    Params = Zero123PlusParams
    preload = (
        "numpy",
        "PIL.Image",
        "torch",
        "diffusers.models.unets.unet_2d_condition",
        "diffusers.models.autoencoders.autoencoder_kl",
        "diffusers.schedulers.scheduling_euler_ancestral_discrete",
        "transformers.models.clip.modeling_clip",
    )
    params: Zero123PlusParams
    _model: Zero123Plus | None = None

    @classmethod
    def weights(cls, params: Zero123PlusParams) -> tuple[str, ...]:
        return (params.base, params.unet)

    def load(self, context: Context) -> None:
        import torch

        from stages.multiview.zero123plus.model import Zero123Plus
        from stages.weights import catalogue

        torch.set_num_threads(context.threads)
        self._model = Zero123Plus.load(
            catalogue.find(self.params.base),
            catalogue.find_file(self.params.unet),
            torch.device(context.device),
            getattr(torch, context.dtype),
            self.params,
        )

    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        assert self._model is not None, "load() comes first"
        with backends(self.params):
            views = self._model.views(inputs[IMAGE.name], context.seed, context.progress)
        if (given := inputs.get(GIVEN_VIEWS.name)) is not None:
            from stages.multiview.zero123plus.given import put_given

            views = put_given(views, given, context.warn)
        return {VIEWS.name: views}

    def close(self) -> None:
        self._model = None
