"""Params of colouring and of the files that come of it: what the stages `isomer` and `retexture`
share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stages.contract import Params

Weight = Annotated[float, Field(gt=0.0, le=10.0)]


class ColorParams(Params):
    """How a bundle's pictures become the colours of a mesh."""

    radius: float = Field(
        4.15,
        gt=1.5,
        le=20.0,
        description="Camera distance of the bundle (reference: 4.15 image, 4.2 text, 4.5 app).",
    )

    # Masks.
    background_tolerance: float = Field(
        0.1,
        ge=0.0,
        le=0.5,
        description="How far from white, in any channel, is still background (normal tiles).",
    )
    mask_erode: int = Field(
        4,
        ge=0,
        le=64,
        description="Pixels by which the masks of the colour tiles shrink (reference: 10).",
    )
    mask_blur: int = Field(
        5, ge=0, le=63, description="Size of the Gaussian that softens those masks."
    )
    outline: Literal["spread", "white"] = Field(
        "spread",
        description="Colours at outlines: the nearest inner ones spread outwards, or as they are, "
        "blended with the white background (reference).",
    )
    outline_margin: int = Field(
        2, ge=0, le=32, description="Pixels inside the outline that `spread` replaces too."
    )

    # Colours.
    view_weights: tuple[Weight, Weight, Weight, Weight] = Field(
        (1.0, 0.5, 1.0, 0.5), description="Weights of the front, left, back and right view."
    )
    cosine: Literal["square", "linear"] = Field(
        "square", description="How the angle between surface and view counts."
    )
    view_direction: Literal["ray", "axis"] = Field(
        "ray",
        description="Direction that the angle is measured to: the camera as seen from each vertex, "
        "or one optical axis a view (reference).",
    )
    visibility: Literal["depth", "faces"] = Field(
        "depth",
        description="Who sees a vertex: a depth test for each vertex, or any face of it that owns "
        "a pixel (reference; lets vertices beside an occluder take its colour).",
    )
    occlusion_margin: int = Field(
        1, ge=0, le=16, description="Pixels to keep away from occluders (visibility: depth)."
    )
    raster_size: int = Field(
        1024,
        ge=64,
        le=4096,
        description="Side of the images that visibility is found in (reference: 512).",
    )
    min_cosine: float = Field(
        0.05, ge=0.0, lt=1.0, description="Surfaces seen at a smaller cosine do not count."
    )
    feather: int = Field(
        4,
        ge=0,
        le=64,
        description="Rings of vertices over which a view fades out at occluders (reference: 0).",
    )
    weight_threshold: float = Field(
        0.1, gt=0.0, le=1.0, description="Total weight from which the views' colour is trusted."
    )
    completion: Literal["blend", "replace", "none"] = Field(
        "blend",
        description="Vertices below the threshold: blend what little is seen with colours grown "
        "from their neighbours, take the grown colour only (reference), or blend with black.",
    )
    base_color: Literal["untouched", "overwritten"] = Field(
        "untouched",
        description="What hardly seen vertices slide to with completion replace or none: the "
        "mesh's own colour, black (as in the reference, whose in-place writes land in a copy), or "
        "what the views before wrote there in passing (what those writes would do).",
    )
    rasterizer: Literal["auto", "pytorch3d", "torch", "cpu"] = Field(
        "auto",
        description="Who draws. auto: torch (ours) on a CUDA device, cpu (ours) elsewhere; "
        "pytorch3d: the reference's. pytorch3d and torch draw on the device of the attempt.",
    )

    # Files.
    texture_size: Literal[1024, 2048, 4096] = Field(
        2048, description="Side of the texture in texels."
    )
    axes: Literal["gltf", "reference"] = Field(
        "gltf",
        description="Front of the exported object: towards +z as glTF asks, or -z (reference).",
    )
    render_size: int = Field(512, ge=64, le=2048, description="Side of the preview pictures.")
