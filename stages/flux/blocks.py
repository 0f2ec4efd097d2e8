"""What of FLUX is streamed: its lists of blocks, and the layers whose inputs are known
beforehand."""

from __future__ import annotations

FLUX_BLOCKS = ("transformer_blocks", "single_transformer_blocks")
"""Block lists of diffusers' FluxTransformer2DModel, in running order."""
CONTROLNET_BLOCKS = (*FLUX_BLOCKS, "controlnet_blocks", "controlnet_single_blocks")
"""Of FluxControlNetModel; the last two are 0.26 GiB of projections that run after the blocks."""
FLUX_ONCE = ("norm1.linear", "norm1_context.linear", "norm.linear")
"""AdaLN's layers within the blocks of both: 7.6 of 28.3 GiB."""
