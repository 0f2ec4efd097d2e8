"""What can be set where normals are fused."""

from __future__ import annotations

from pydantic import Field

from stages.contract import Params
from stages.geometry.camera_rig import RADIUS


class ReconstructParams(Params):
    """Of a mesh that is made of views' normals."""

    radius: float = Field(
        RADIUS, ge=2.0, le=10.0, description="distance of the bundle's cameras from the origin"
    )
    resolution: int = Field(
        104,
        ge=32,
        le=160,
        description="voxels along the object's longest side; more for one with thin parts",
    )
    max_faces: int = Field(60_000, ge=2_000, le=500_000, description="upper bound of faces")
    smoothing: int = Field(3, ge=0, le=50, description="rounds of Taubin smoothing")
    min_part: float = Field(
        0.002,
        ge=0.0,
        le=1.0,
        description="parts below this share of the largest part's volume are dropped",
    )
