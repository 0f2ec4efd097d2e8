"""The named values that stages exchange, promised once and used by every stage.

Bundles are float32 because Flux's output is; views are uint8 because Zero123++'s are.
"""

from __future__ import annotations

from stages.contract.stage import ArtifactSpec

INPUT_IMAGE = ArtifactSpec(
    "input_image", "file", "the picture as the user gave it, undecoded", suffix=".img"
)
INPUT_MASK = ArtifactSpec(
    "input_mask",
    "file",
    "the user's own mask of the picture, undecoded: white (or opaque) is the object",
    suffix=".img",
    optional=True,
)
INPUT_BACK = ArtifactSpec(
    "input_back",
    "file",
    "a picture of the same object from behind, undecoded",
    suffix=".img",
    optional=True,
)
INPUT_LEFT = ArtifactSpec(
    "input_left",
    "file",
    "a picture of the same object from its own left side, undecoded",
    suffix=".img",
    optional=True,
)
INPUT_RIGHT = ArtifactSpec(
    "input_right",
    "file",
    "a picture of the same object from its own right side, undecoded",
    suffix=".img",
    optional=True,
)
INPUT_TEXT = ArtifactSpec("input_text", "text", "the user's own words for the object")
INPUT_MESH = ArtifactSpec(
    "input_mesh",
    "file",
    "the user's own mesh: a GLB, PLY or STL file, or a zip archive of a mesh and what it refers to",
    suffix=".mesh",
)
GIVEN_MESH = ArtifactSpec(
    "given_mesh",
    "mesh",
    "the user's own mesh, frame W: bounding box around 0, longest side 1.8",
)
GIVEN_PLACE = ArtifactSpec(
    "given_place",
    "array",
    "where `given_mesh` comes from: x, y, z of the middle of its bounding box in the units of its "
    "file, y up and front +z, and what its lengths were multiplied with",
    (4,),
    "float64",
    optional=True,
)
GIVEN_UV = ArtifactSpec(
    "given_uv",
    "array",
    "texture coordinates of the corners of `given_mesh`'s faces, v down as in glTF",
    ("F", 3, 2),
    "float32",
    optional=True,
)
IMAGE = ArtifactSpec("image", "image", "the object on a white square, sRGB", ("S", "S", 3), "uint8")
ALPHA = ArtifactSpec(
    "alpha", "image", "coverage of `image` by the object, 255 = object", ("S", "S", 1), "uint8"
)
GIVEN_VIEWS = ArtifactSpec(
    "given_views",
    "image",
    "the object's back, left and right as given, to the scale of `image` and centred like it: sRGB "
    "on white and coverage (255 = object); a side of which no picture was given is covered nowhere",
    (3, "S", "S", 4),
    "uint8",
    optional=True,
)
VIEWS = ArtifactSpec(
    "views",
    "image",
    "the object seen from its front, left, back and right, elevation 5, white background, sRGB",
    (4, 512, 512, 3),
    "uint8",
)
VIEW_NORMALS = ArtifactSpec(
    "view_normals",
    "image",
    "normal maps of `views` in the bundle's encoding, white background",
    (4, 512, 512, 3),
    "uint8",
    optional=True,
)
REFERENCE_BUNDLE = ArtifactSpec(
    "reference_bundle",
    "image",
    "2 x 4 tiles: RGB above normals, columns azimuth 0, 90, 180, 270; white background",
    ("H", "W", 3),
    "float32",
    (0.0, 1.0),
)
CAPTION = ArtifactSpec("caption", "text", "what the picture shows, in English")
PROMPT = ArtifactSpec("prompt", "text", "the text that T5 encodes, behind the fixed bundle prompt")
PROMPT_EMBEDS = ArtifactSpec(
    "prompt_embeds",
    "array",
    "T5 tokens, then Redux image tokens scaled by its strength; FLUX.1-dev: (512 + 729, 4096)",
    ("T", "D"),
    "float32",
)
POOLED_EMBEDS = ArtifactSpec(
    "pooled_embeds", "array", "pooled CLIP text embedding; FLUX.1-dev: (768,)", ("P",), "float32"
)
CONTROL_DEPTH = ArtifactSpec(
    "control_depth",
    "image",
    "depth maps in the bundle's layout, near is bright, for ControlNet's mode depth",
    ("H", "W", 3),
    "uint8",
    optional=True,
)
CONTROL_POSE = ArtifactSpec(
    "control_pose",
    "image",
    "OpenPose skeletons in the bundle's layout, for ControlNet's mode pose",
    ("H", "W", 3),
    "uint8",
    optional=True,
)
BUNDLE = ArtifactSpec(
    "bundle",
    "image",
    "the final bundle, same layout as `reference_bundle`",
    ("H", "W", 3),
    "float32",
    (0.0, 1.0),
)
BUNDLE_MASK = ArtifactSpec(
    "bundle_mask",
    "image",
    "where the object is in the bundle's tiles, azimuth 0, 90, 180, 270; 255 = object",
    (4, "S", "S", 1),
    "uint8",
    optional=True,
)
BODY = ArtifactSpec(
    "body", "mesh", "the closed body that `views` are pictures of, frame W", optional=True
)
KNOWN_BODY = ArtifactSpec(
    "known_body",
    "mesh",
    "the closed body that the bundle's views are pictures of, frame W",
    optional=True,
)
COARSE_MESH = ArtifactSpec("coarse_mesh", "mesh", "closed start mesh for ISOMER, frame W")
MESH = ArtifactSpec("mesh", "mesh", "the final mesh with vertex colours, frame W")
GLB = ArtifactSpec(
    "glb",
    "file",
    "the final mesh with its texture, binary glTF",
    suffix=".glb",
    filename="mesh.glb",
)
OBJ = ArtifactSpec(
    "obj",
    "file",
    "the final mesh, Wavefront OBJ: of the texture, or with vertex colours",
    suffix=".obj",
    filename="mesh.obj",
)
OBJ_MATERIAL = ArtifactSpec(
    "obj_material",
    "file",
    "the material that `obj` names",
    suffix=".mtl",
    filename="mesh.mtl",
    optional=True,
)
TEXTURE = ArtifactSpec(
    "texture",
    "file",
    "the colours that `obj_material` names, sRGB",
    suffix=".png",
    filename="mesh_color.png",
    optional=True,
)
NORMAL_MAP = ArtifactSpec(
    "normal_map",
    "file",
    "the normal map that `obj_material` names, in tangent space, y up",
    suffix=".png",
    filename="mesh_normal.png",
    optional=True,
)
FULL_MESH = ArtifactSpec(
    "full_mesh",
    "file",
    "`mesh`, the fine one with vertex colours, binary PLY",
    suffix=".ply",
    filename="mesh_full.ply",
    optional=True,
)
RENDERS = ArtifactSpec(
    "renders",
    "image",
    "the final mesh in its own colours as the bundle's 4 cameras see it, and once askew: sRGB on "
    "white and coverage (255 = mesh)",
    (5, "S", "S", 4),
    "uint8",
)
