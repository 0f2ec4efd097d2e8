"""Reference attention: the UNet looks at another picture through its own self-attention.

Zero123++ (Shi et al. 2023, arXiv 2310.15110, section 2.2). The UNet runs twice in a step:

    write   on the latent of the condition picture, noised to the step's level. Every self-attention
            layer l keeps the tokens r_l that it was given. The output is dropped.
    read    on the latent that is denoised. Layer l, given the tokens x_l, computes

                Attention(Q = x_l W_q,  K = [x_l; r_l] W_k,  V = [x_l; r_l] W_v)

The layers' own weights serve both, so the model has no parameters besides the UNet's. The two
latents need not have the same size: attention does not care how many tokens it looks at.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

SELF_ATTENTION = "attn1.processor"
"""How diffusers ends the names of self-attention processors in a transformer block."""


class ReferenceTokens:
    """What the write pass of one step leaves for its read pass."""

    def __init__(self) -> None:
        self._mode: Literal["write", "read"] = "write"
        self._tokens: dict[str, torch.Tensor] = {}

    def write(self) -> None:
        """Keep what the layers are given from now on."""
        self._tokens.clear()
        self._mode = "write"

    def read(self) -> None:
        """Hand out what was kept, each layer's once."""
        self._mode = "read"

    def keys_and_values(self, layer: str, tokens: torch.Tensor) -> torch.Tensor:
        """What `layer` attends to when it is given `tokens` (B, N, C): (B, N + M, C) or themselves.

        Raises KeyError if a layer reads what it has not written.
        """
        if self._mode == "write":
            self._tokens[layer] = tokens
            return tokens
        return torch.cat([tokens, self._tokens.pop(layer)], dim=1)


class ReferenceAttention:
    """Processor of one self-attention layer, on PyTorch's scaled_dot_product_attention."""

    def __init__(self, layer: str, reference: ReferenceTokens) -> None:
        self._attend = AttnProcessor2_0()
        self._layer = layer
        self._reference = reference

    def __call__(
        self, attn: Attention, hidden_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """hidden_states: (B, N, C), after the block's first norm. Returns the same shape.

        What else diffusers passes to a self-attention layer is None: Stable Diffusion's UNet has
        neither masks nor conditions there.
        """
        seen = self._reference.keys_and_values(self._layer, hidden_states)
        attended: torch.Tensor = self._attend(attn, hidden_states, encoder_hidden_states=seen)
        return attended


class ReferenceUNet:
    """A UNet2DConditionModel that denoises in view of a reference latent."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.unet = unet
        self._reference = ReferenceTokens()
        unet.set_attn_processor(
            {
                name: ReferenceAttention(name, self._reference)
                if name.endswith(SELF_ATTENTION)
                else processor
                for name, processor in unet.attn_processors.items()
            }
        )

    @property
    def device(self) -> torch.device:
        """Where the UNet is at the moment."""
        return torch.device(self.unet.device)

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        dtype: torch.dtype = self.unet.dtype
        return dtype

    @property
    def channels(self) -> int:
        """Channels of a latent, 4."""
        return int(self.unet.config.in_channels)

    def __call__(
        self,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        text: torch.Tensor,
        reference: torch.Tensor,
    ) -> torch.Tensor:
        """The model's prediction, the shape of `latents`.

        latents    (B, 4, H, W), scaled as the scheduler wants the model's input
        timestep   ()
        text       (B, T, D), of both passes
        reference  (B, 4, h, w), noised to `timestep` and scaled likewise
        """
        self._reference.write()
        self.unet(reference, timestep, encoder_hidden_states=text, return_dict=False)
        self._reference.read()
        predicted: torch.Tensor = self.unet(
            latents, timestep, encoder_hidden_states=text, return_dict=False
        )[0]
        return predicted
