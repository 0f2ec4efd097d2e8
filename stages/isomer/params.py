"""Parameters of the isomer stage. Defaults are what we recommend; quirks of the reference are
named values, and profile `original` picks them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stages.isomer.color_params import ColorParams, Weight

EdgeLength = Annotated[float, Field(ge=0.001, le=0.5)]


class IsomerParams(ColorParams):
    """Refinement, cleaning, colouring and export of the mesh."""

    # Refinement.
    stage1_steps: int = Field(
        0,
        ge=0,
        le=2000,
        description="Steps towards the normal maps pixel by pixel, with a push outwards "
        "(reference: 0, in some app flows 10).",
    )
    stage2_steps: int = Field(
        50,
        ge=0,
        le=2000,
        description="Steps towards the normals that all views together ask of each vertex "
        "(reference: 50, fast 28).",
    )
    refine_above: float = Field(
        0.0,
        ge=0.0,
        le=180.0,
        description="Degrees between the coarse mesh's normals and the maps', their mean: with "
        "less nothing is refined, and torch is not imported. 0: always refine.",
    )
    objective: Literal["improved", "reference"] = Field(
        "improved",
        description="improved: outlines count from both sides and by coverage, and a start that "
        "is far off is replaced; reference: as the original, which lets uncovered parts of the "
        "silhouettes be.",
    )
    start: Literal["auto", "mesh", "fused"] = Field(
        "auto",
        description="What to refine: the coarse mesh, a mesh fused from the normal maps, or that "
        "only if the coarse mesh disagrees with them by more than 13 degrees. Objective reference "
        "always takes the coarse mesh.",
    )
    geometry_weights: tuple[Weight, Weight, Weight, Weight] = Field(
        (1.0, 0.9, 1.0, 0.9),
        description="Weights of the front, left, back and right view in stage 2.",
    )
    stage1_edges: tuple[EdgeLength, EdgeLength] = Field(
        (0.1, 0.02), description="Longest and shortest edge length aimed at in stage 1."
    )
    stage2_edges: tuple[EdgeLength, EdgeLength] = Field(
        (0.02, 0.005), description="Longest and shortest edge length aimed at in stage 2."
    )
    learning_rate: float = Field(0.3, gt=0.0, le=2.0, description="Largest step, in edge lengths.")
    laplacian: float = Field(
        0.02, ge=0.0, le=1.0, description="Pull of moving vertices to their neighbours."
    )
    max_vertices: int = Field(
        300_000,
        ge=1000,
        le=5_000_000,
        description="The mesh never has more. Objective improved keeps edges long enough for that; "
        "reference, at the limit, stops splitting them (reference: 1000000).",
    )

    # Cleaning.
    smooth: bool | None = Field(
        None,
        description="Whether smoothing and subdivision may move vertices; null: not after "
        "refinement with objective improved, whose outlines would shrink (reference: true).",
    )
    smooth_iterations: int = Field(
        1, ge=0, le=50, description="Rounds of Laplacian smoothing, if any."
    )
    non_manifold: Literal["split", "remove"] = Field(
        "split",
        description="where more than two faces meet at an edge and vertices may move: cut the "
        "sheets apart, or remove the smallest faces (reference), which leaves holes.",
    )
    subdivisions: int = Field(2, ge=0, le=4, description="Rounds of Loop subdivision.")
    min_edge: float = Field(
        0.0025,
        ge=0.0,
        le=1.0,
        description="Edges up to this share of the bounding-box diagonal are not split.",
    )
    target_faces: int | None = Field(
        100_000,
        ge=100,
        le=10_000_000,
        description="The final mesh has no more faces: a larger one is reduced, and subdivision "
        "stops there, longest edges first. null for no limit (reference: null, which grows a mesh "
        "5 to 12 times).",
    )

    # Masks.
    silhouettes: Literal["white", "given"] = Field(
        "white",
        description="where the object is in the tiles: what is not white in the normal tiles, or "
        "the bundle_mask that the stage before it used (reference).",
    )
    # Texture.
    texture: Literal["baked", "none"] = Field(
        "baked",
        description="The files' colours. baked: a mesh of fewer faces with a texture from the "
        "bundle's pixels; none: colours at the vertices of the fine mesh (reference).",
    )
    texture_faces: int | None = Field(
        30_000,
        ge=100,
        le=10_000_000,
        description="The textured mesh has no more faces; null: those of the fine one.",
    )
    normal_map: bool = Field(
        False,
        description="Whether the textured mesh gets a normal map with the fine mesh's shading.",
    )
