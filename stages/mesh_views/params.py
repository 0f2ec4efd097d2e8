"""What can be set on the stage `mesh_views`."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from stages.contract import Params

Axis = Literal["auto", "+x", "-x", "+y", "-y", "+z", "-z"]

DISTANCE = 4.5
"""Where the reference's cameras stand when they look at a given mesh. Its other bundles, made of a
picture, are seen from 4.15."""


class MeshViewsParams(Params):
    """Limits of the file, how the mesh stands, and how it is drawn."""

    up: Axis = Field(
        "auto",
        description="which way is up in the file; auto: +y, in an STL +z, as 3D printing has it",
    )
    front: Axis = Field(
        "auto",
        description="where the object's front looks in the file; auto: +z, or where up is z: -y",
    )
    normals: Literal["auto", "smooth"] = Field(
        "auto",
        description="auto: the file's own, else smooth where the surface bends and split at edges "
        "of more than 40 degrees; smooth: averaged over the faces around each vertex (reference)",
    )
    light: Literal["auto", "even", "soft"] = Field(
        "auto",
        description="even: the mesh's own colours; soft: as under an overcast sky, darker below; "
        "auto: even, or soft for a mesh that has no colours",
    )
    normal_encoding: Literal["bundle", "reference"] = Field(
        "bundle",
        description="of the normal tiles. reference: as its 3D to 3D mode draws them, turned by up "
        "to 10 degrees, since it applies the inverse of what is meant",
    )
    radius: float = Field(
        DISTANCE, ge=2.0, le=10.0, description="distance of the cameras from the origin"
    )
    size: int = Field(512, ge=64, le=2048, description="side of one tile in pixels")
    max_faces: int = Field(
        2_000_000, ge=1, le=5_000_000, description="largest mesh, in triangles, instances counted"
    )
    max_bytes: int = Field(
        256 << 20,
        ge=1024,
        le=1 << 30,
        description="largest input in bytes, and largest sum of the files in an archive",
    )
    max_pixels: int = Field(
        8192 * 8192,
        ge=256,
        le=1 << 28,
        description="largest texture, width x height; checked before decoding. What is wider than "
        "2048 is scaled down",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if "auto" not in (self.up, self.front) and self.up[1] == self.front[1]:
            raise ValueError(f"up ({self.up}) and front ({self.front}) lie on the same axis")
        return self

    def axes(self, kind: str) -> tuple[str, str]:
        """up and front for a file of this kind."""
        up: str = self.up
        if up == "auto":
            usual = "+z" if kind == "stl" else "+y"
            up = usual if self.front[1] != usual[1] else ("+y" if usual == "+z" else "+z")
        front: str = self.front
        if front == "auto":
            front = "-y" if up[1] == "z" else "+z"
        return up, front
