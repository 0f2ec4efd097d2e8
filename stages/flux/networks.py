"""diffusers' two networks of Flux. Import them from here.

diffusers (0.42) builds its ControlNet's rotary embedding under an alias that it has deprecated
itself, and warns of it at every start. The class behind the alias is put in its place.
"""

from __future__ import annotations

from diffusers import FluxControlNetModel, FluxTransformer2DModel
from diffusers.models.controlnets import controlnet_flux
from diffusers.models.transformers.transformer_flux import FluxPosEmbed

__all__ = ["FluxControlNetModel", "FluxTransformer2DModel"]

controlnet_flux.FluxPosEmbed = FluxPosEmbed
