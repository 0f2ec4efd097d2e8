"""The whole model, and how it gets its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.common.checkpoint import load_state_dict
from stages.contract import StageError
from stages.lrm.prm import transformer
from stages.lrm.prm.config import PrmConfig
from stages.lrm.prm.decoder import Decoder, Synthesizer
from stages.lrm.prm.encoder import ImageEncoder
from stages.lrm.prm.transformer import TriplaneTransformer

PREFIX = "lrm_generator."
"""Of the model's keys in the published Lightning checkpoint."""
NAMED = 5
"""Keys that an error names before it counts the rest."""


class Prm(nn.Module):
    """Encoder, triplane transformer and decoder, with the published state-dict keys."""

    def __init__(self, config: PrmConfig | None = None) -> None:
        super().__init__()
        config = config or PrmConfig()
        self.encoder = ImageEncoder(config.encoder)
        self.transformer = TriplaneTransformer(config.transformer, config.encoder.hidden)
        self.synthesizer = Synthesizer(config.transformer.plane_dim)
        self._dtype = torch.float32

    @property
    def decoder(self) -> Decoder:
        return self.synthesizer.decoder

    @property
    def device(self) -> torch.device:
        return self.transformer.pos_embed.device

    def planes(self, images: Tensor, cameras: Tensor) -> Tensor:
        """What the decoder reads of an object.

        images (B, V, 3, H, W) in [0, 1], H and W multiples of the patch size; cameras (B, V, 16).
        Returns (B, 3, C, 2 * low_res, 2 * low_res) float32.

        Where the layers were made half by `halve`, matrix products and attention run in their
        dtype; the residual streams between them, the norms and the planes are float32.
        """
        half = self._dtype != torch.float32
        with torch.autocast(images.device.type, dtype=self._dtype, enabled=half):
            return self.transformer(self.encoder(images, cameras))

    def halve(self, dtype: torch.dtype) -> None:
        """Keep the matrices of encoder and transformer, 98.8 % of the weights, in `dtype`."""
        matrices = (nn.Linear, transformer.CrossAttention, transformer.SelfAttention)
        for part in (self.encoder, self.transformer):
            for module in part.modules():
                if isinstance(module, matrices):
                    module.to(dtype)
        self._dtype = dtype


def load_prm(path: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Prm:
    """The model of a .ckpt or .safetensors file, on `device`, ready for inference.

    dtype  of encoder and transformer, see `Prm.halve`; the decoder is always float32

    Raises StageError (missing_weights) that names the keys if the file lacks some, has others
    behind the prefix, or holds a tensor of another shape.
    """
    with torch.device("meta"):
        model = Prm(PrmConfig.beside(path))
    tensors = load_state_dict(path, PREFIX)
    _check(tensors, model.state_dict(), path)
    model.load_state_dict(tensors, assign=True)
    model.requires_grad_(False).eval().float()
    if dtype != torch.float32:
        model.halve(dtype)
    return model.to(device)


def _check(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], path: Path) -> None:
    if not found:
        raise _unusable(path, f"has no key that starts with {PREFIX}")
    if missing := sorted(wanted.keys() - found.keys()):
        raise _unusable(path, f"lacks {_listed(missing)}")
    if surplus := sorted(found.keys() - wanted.keys()):
        raise _unusable(path, f"has {_listed(surplus)}, which the model does not know")
    for key, tensor in found.items():
        if tensor.shape != wanted[key].shape:
            shapes = f"{tuple(tensor.shape)} instead of {tuple(wanted[key].shape)}"
            raise _unusable(path, f"holds {PREFIX}{key} in shape {shapes}")


def _listed(keys: list[str]) -> str:
    named = ", ".join(PREFIX + key for key in keys[:NAMED])
    return named if len(keys) <= NAMED else f"{named} and {len(keys) - NAMED} more keys"


def _unusable(path: Path, what: str) -> StageError:
    return StageError(
        "missing_weights",
        f"{path} is not a checkpoint of this model: it {what}",
        "download it again with `kiss3d-orchestrate models pull prm`; a model of other sizes needs "
        "a prm.json beside its checkpoint",
    )
