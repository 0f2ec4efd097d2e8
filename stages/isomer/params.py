"""Parameters of the isomer stage. Defaults are what we recommend; quirks of the reference are
named values, and profile `original` picks them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from stages.contract import Params

Weight = Annotated[float, Field(gt=0.0, le=10.0)]
EdgeLength = Annotated[float, Field(ge=0.001, le=0.5)]


class IsomerParams(Params):
    """Refinement, cleaning, colouring and export of the mesh."""

    radius: float = Field(
        4.15,
        gt=1.5,
        le=20.0,
        description="Camera distance of the bundle (reference: 4.15 image, 4.2 text, 4.5 app).",
    )

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
        description="Who draws. auto: pytorch3d on a CUDA device, cpu (ours) elsewhere; torch: "
        "ours for cards without a working pytorch3d. pytorch3d and torch draw on the device of "
        "the attempt.",
    )

    # Texture.
    texture: Literal["baked", "none"] = Field(
        "baked",
        description="The files' colours. baked: a mesh of fewer faces with a texture from the "
        "bundle's pixels; none: colours at the vertices of the fine mesh (reference).",
    )
    texture_size: Literal[1024, 2048, 4096] = Field(
        2048, description="Side of the texture in texels."
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

    # Files.
    axes: Literal["gltf", "reference"] = Field(
        "gltf",
        description="Front of the exported object: towards +z as glTF asks, or -z (reference).",
    )
    render_size: int = Field(512, ge=64, le=2048, description="Side of the preview pictures.")
