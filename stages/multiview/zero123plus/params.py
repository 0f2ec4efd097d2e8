"""What can be set on stage `zero123plus`."""

from __future__ import annotations

from pydantic import Field

from stages.models.kernels import BackendParams

VIEW_SIDE = 512
"""Side of the views that the stage hands on, and that FlexGen's UNet was trained for."""


class Zero123PlusParams(BackendParams):
    """The defaults are the original's."""

    steps: int = Field(50, ge=1, le=1000, description="denoising steps; 20 to 24 are a fast run")
    guidance: float = Field(
        4.0,
        ge=1.0,
        le=30.0,
        description="classifier-free guidance scale; 1 turns it off and halves the work",
    )
    view_size: int = Field(
        VIEW_SIDE,
        ge=32,
        le=1024,
        multiple_of=32,
        description="side in pixels at which a view is denoised; the grid's is twice that. "
        "The model was trained for 512; views of another size are resized to 512",
    )
    vae_tiling: bool = Field(
        False,
        description="decode the grid in overlapping tiles: less memory, not the same pixels",
    )
    keep_on_device: bool = Field(
        False,
        description="leave every model on the card between its turns: saves the transfers of "
        "each image, costs the memory of all of them",
    )
    base: str = Field(
        "zero123plus",
        description="everything but the UNet's weights: a name in configs/models.yaml, or a folder "
        "laid out as sudo-ai/zero123plus-v1.2",
    )
    unet: str = Field(
        "flexgen",
        description="the UNet's weights: a name in configs/models.yaml, or a state dict's file",
    )
