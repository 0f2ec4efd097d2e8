"""The whole model, and how it gets its weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from stages.lrm.prm import transformer
from stages.lrm.prm.config import PrmConfig
from stages.lrm.prm.decoder import Decoder, Synthesizer
from stages.lrm.prm.encoder import ImageEncoder
from stages.lrm.prm.transformer import TriplaneTransformer
from stages.weights.checkpoint import load_state_dict, misfit, require_shapes, shapes

PREFIX = "lrm_generator."
"""Of the model's keys in the published Lightning checkpoint."""
HINT = (
    "download it again with `kiss3d-orchestrate models pull prm`; a model of other sizes needs "
    "a prm.json beside its checkpoint"
)
"""For a checkpoint that does not fit."""


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
        raise misfit(path, f"it has no key that starts with {PREFIX}", HINT)
    require_shapes(path, _prefixed(wanted), _prefixed(found), HINT)


def _prefixed(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shapes by the names that the file has."""
    return {f"{PREFIX}{key}": shape for key, shape in shapes(tensors).items()}
