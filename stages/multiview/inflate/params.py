"""What can be set on stage `inflate`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stages.contract import Params


class InflateParams(Params):
    """Lengths are in units of frame W, where the object is about 1.9 high or wide.

    Depths and relief are those of a body that the silhouette tells; the network has its own.
    """

    shape: Literal["auto", "network", "silhouette"] = Field(
        "auto",
        description="what tells the body's shape: the small network that comes with the program, "
        "or silhouettes alone; auto: the network where its file is",
    )
    upright: bool = Field(
        True,
        description="stand up what the network says was seen from above or from its own height, so "
        "that it does not lean; the front view is then one of the body, not the picture itself",
    )
    grid: int = Field(
        320,
        ge=64,
        le=512,
        description="nodes of the height field along the picture's side",
    )
    thickness: float = Field(
        0.9,
        gt=0.0,
        le=2.0,
        description="depth of parts over their width: 1 makes a disc a ball",
    )
    max_depth: float = Field(
        1.0,
        gt=0.0,
        le=2.0,
        description="half-depth that no part, however wide, exceeds before `thickness` applies",
    )
    back_depth: float = Field(
        0.9, gt=0.0, le=1.5, description="depth of the back half over the front half's"
    )
    relief: float = Field(
        0.02,
        ge=0.0,
        le=0.2,
        description="amplitude of the front's relief that is read off the shading, 0 for none",
    )
    voxels: int = Field(
        88,
        ge=32,
        le=160,
        description="of the body along its longest side, where a picture of a side is given",
    )
