"""What can be set on the stages `hull.reference` and `hull.reconstruct`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stages.contract import Params
from stages.geometry.camera_rig import RADIUS
from stages.geometry.normal_fusion.params import ReconstructParams


class ReferenceParams(Params):
    """Of `hull.reference`; without effect where the views come with their normals."""

    normals: Literal["auto", "network", "silhouette"] = Field(
        "auto",
        description="what tells them: the small network that comes with the program, or the "
        "silhouettes alone, inflated; auto: the network where its file is",
    )
    radius: float = Field(
        RADIUS, ge=2.0, le=10.0, description="distance of the views' cameras from the origin"
    )
    resolution: int = Field(72, ge=32, le=128, description="voxels along the object's longest side")


class HullParams(ReconstructParams):
    """Of `hull.reconstruct`."""

    known_body: bool = Field(
        True,
        description="where the views are pictures of a body, take that as it is: the other params "
        "are for a mesh that is made of the views",
    )
