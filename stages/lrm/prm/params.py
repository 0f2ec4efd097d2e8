"""What can be set on the stages `prm.reference` and `prm.reconstruct`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stages.geometry.camera_rig import RADIUS
from stages.models.kernels import BackendParams


class ModelParams(BackendParams):
    """Of both stages: the weights, and how the model's field becomes a mesh."""

    weights: str = Field("prm", description="a name of the catalogue, or the path of a checkpoint")
    resolution: int = Field(
        128,
        ge=8,
        le=384,
        description="cubes along a side of the grid that the surface is found on; the model was "
        "trained for 128",
    )
    chunk_points: int = Field(
        131_072,
        ge=64,
        le=16_777_216,
        description="points decoded at once; each takes about 3 kB while it is",
    )
    empty_shape: Literal["error", "repair", "reference"] = Field(
        "error",
        description="where the model's field has no surface: fail, go on with a small solid at the "
        "centre (or a box, if all is inside), or do as the reference, whose solid is inside out",
    )
    closed: bool = Field(
        True,
        description="close the surface where it reaches the grid's border (reference: false, which "
        "leaves a hole there)",
    )


class ReferenceParams(ModelParams):
    """Of `prm.reference`."""

    rgb: Literal["views", "render"] = Field(
        "views",
        description="upper row: the views themselves, or the model's colours under even white "
        "light (the reference's environment light is not published with the weights)",
    )
    radius: float = Field(
        RADIUS, ge=2.0, le=10.0, description="distance of the cameras that the mesh is rendered at"
    )
    tilted_normals: bool = Field(
        False, description="tilt the normals by 26.6 degrees, as the reference does by mistake"
    )


class ReconstructParams(ModelParams):
    """Of `prm.reconstruct`."""

    mask: Literal["auto", "u2net", "white"] = Field(
        "auto",
        description="what is object in the bundle: the reference's u2net on the normal tiles, what "
        "is not white in them, or the first if its weights are on this machine and else the second",
    )
    background_tolerance: float = Field(
        0.1,
        ge=0.0,
        le=0.5,
        description="how far from white, in any channel, is still background (mask: white)",
    )
    texture_size: int = Field(
        0,
        ge=0,
        le=8192,
        description="side in texels of the texture of an additional file, coarse_mesh.glb; 0 for "
        "none. Needs xatlas",
    )
