"""Read a mesh file that may come from anybody: sizes are held to limits before they are believed.

The file is parsed by trimesh. What it names beside itself (an OBJ's material and picture) is taken
from its own folder alone.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from stages.contract import BadInput
from stages.contract.glb import glb_parts, own_bytes
from stages.contract.mesh_files import gltf_document
from stages.contract.mesh_formats import MOST_FACES, READABLE
from stages.contract.srgb import linear_to_srgb
from stages.export.model import Model
from stages.geometry.creased_normals import creased_normals

MOST_BYTES = 1 << 30
MOST_NUMBERS = 20 * MOST_FACES
"""Of one accessor of a .glb file."""
MOST_PIXELS = 8192 * 8192
TRIMESH_GREY = 102
"""Of a material that is not there."""


def read_model(path: Path) -> Model:
    """The mesh of a .glb, .obj, .ply or .stl file with its texture or colours, y up.

    Parts of a scene are joined to one mesh. Raises BadInput for a file that holds none.
    """
    suffix = path.suffix.lower()
    if suffix not in READABLE:
        raise BadInput(f"{path} is no mesh file that can be read", f"give {', '.join(READABLE)}")
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadInput(f"{path} is larger than {MOST_BYTES >> 30} GiB", "give a smaller mesh")
        content = path.read_bytes()
        if suffix == ".glb":
            content = own_bytes(content)
            _check_glb(content)
        return _model(_loaded(path, content, suffix), suffix, _has_normals(content, suffix))
    except (ImportError, MemoryError, BadInput):
        raise
    except Exception as error:  # each library has its own exceptions for a broken file
        raise BadInput(
            f"{path} is no usable mesh: {str(error) or type(error).__name__}",
            "open it in a 3D program, and save it as .glb, .obj, .ply or .stl",
        ) from error


def _loaded(path: Path, content: bytes, suffix: str) -> Any:
    import trimesh

    # Materials and normals of an OBJ are only kept where vertices are split for them.
    beside: Any = _Beside(path.parent)
    more = {"maintain_order": True} if suffix == ".obj" else {}
    loaded: Any = trimesh.load(
        io.BytesIO(content),
        file_type=suffix[1:],
        resolver=beside,
        force="mesh",
        process=False,
        **more,
    )
    return loaded


class _Beside:
    """What a file may ask for: regular files in its own folder, by their bare names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str) -> bytes:
        """Raises FileNotFoundError, as trimesh expects it, or ValueError."""
        file = self._folder / Path(str(name).strip().replace("\\", "/")).name
        if not file.is_file() or file.is_symlink():
            raise FileNotFoundError(name)
        if file.stat().st_size > MOST_BYTES:
            raise ValueError(f"{file.name} is larger than {MOST_BYTES >> 30} GiB")
        return file.read_bytes()

    def __getitem__(self, name: str) -> bytes:
        return self.get(name)

    def keys(self) -> list[str]:
        return []


def _check_glb(content: bytes) -> None:
    """Refuse a .glb file whose accessors ask for more than it can hold. Raises ValueError.

    An accessor without bytes of its own stands for zeros, as many as it says.
    """
    document = gltf_document(glb_parts(content)[0])
    accessors = document.get("accessors", [])
    total = 0
    for accessor in accessors:
        total += int(accessor["count"])
        if not 0 <= int(accessor["count"]) <= MOST_NUMBERS or total > 4 * MOST_NUMBERS:
            raise ValueError(f"it claims {total:,} values, which is too many")
        if "bufferView" not in accessor or "sparse" in accessor:
            raise ValueError("it has sparse or empty accessors, which are not supported")
    # Each mention of a mesh is one more copy of it.
    nodes = sum("mesh" in node for node in document.get("nodes", []))
    if nodes * max((int(accessor["count"]) for accessor in accessors), default=0) > MOST_NUMBERS:
        raise ValueError("it repeats its meshes too often")


def _model(loaded: Any, suffix: str, has_normals: bool) -> Model:
    points = np.asarray(loaded.vertices, np.float64).reshape(-1, 3)
    corners = np.asarray(loaded.faces, np.int64).reshape(-1, 3)
    if not len(corners):
        raise ValueError("it has no faces")
    if len(corners) > MOST_FACES:
        raise ValueError(f"it has {len(corners):,} faces, and {MOST_FACES:,} are the most")
    if corners.min() < 0 or corners.max() >= len(points):
        raise ValueError("a face names a vertex that is not there")
    used = np.zeros(len(points), bool)
    used[corners] = True
    if not np.isfinite(points[used]).all() or np.abs(points[used]).max() > 1e18:
        raise ValueError("its coordinates are no numbers to work with")
    points = np.where(used[:, None], points, points[corners[0, 0]])
    vertices, first, inverse = np.unique(
        points + 0.0, axis=0, return_index=True, return_inverse=True
    )
    faces = inverse.reshape(-1)[corners].astype(np.int32)
    if not np.ptp(vertices, axis=0).max() > 0.0:
        raise ValueError("all its vertices lie at one point")
    normals = _given_normals(loaded, corners) if has_normals else None
    if normals is None:
        normals = creased_normals(vertices, faces)
    uv, color_png, normal_png = _texture(loaded.visual, len(points), corners)
    colors = None
    if loaded.visual.kind == "vertex":
        colors = np.asarray(loaded.visual.vertex_colors)[:, :3].astype(np.uint8)[first]
        if suffix == ".glb":  # glTF's are linear light
            colors = np.rint(linear_to_srgb(colors / 255.0) * 255.0).astype(np.uint8)
    elif uv is None and (flat := _one_color(loaded.visual)) is not None:
        colors = np.tile(flat, (len(vertices), 1))
    return Model(vertices, faces, normals, uv, color_png, normal_png, None, colors)


def _has_normals(content: bytes, suffix: str) -> bool:
    """Whether all of an .obj or .glb file has normals of its own."""
    if suffix == ".obj":
        return b"\nvn " in content
    if suffix != ".glb":
        return False
    document = gltf_document(glb_parts(content)[0])
    parts = [part for mesh in document.get("meshes", []) for part in mesh["primitives"]]
    return all("NORMAL" in part["attributes"] for part in parts)


def _given_normals(loaded: Any, corners: np.ndarray) -> np.ndarray | None:
    """(F, 3, 3) float32 unit normals of the file, or None where some are missing."""
    given = np.asarray(loaded.vertex_normals, np.float64)
    length = np.linalg.norm(given, axis=1, keepdims=True)
    if given.shape != (len(loaded.vertices), 3) or not (length[corners.reshape(-1)] > 1e-6).all():
        return None
    return (given / np.maximum(length, 1e-6)).astype(np.float32)[corners]


def _texture(
    visual: Any, count: int, corners: np.ndarray
) -> tuple[np.ndarray | None, bytes, bytes]:
    """(F, 3, 2) float32 coordinates, v down, and PNG files of colours and normals; (None, b"", b"")
    without a picture that fits, or with one of a single colour."""
    if visual.kind != "texture" or visual.uv is None or len(visual.uv) != count:
        return None, b"", b""
    picture = _picture(visual)
    if picture is None or _is_flat(picture):
        return None, b"", b""
    upward = np.nan_to_num(np.asarray(visual.uv, np.float64), posinf=0.0, neginf=0.0)
    uv = np.stack([upward[:, 0], 1.0 - upward[:, 1]], axis=1).astype(np.float32)
    bumps = getattr(visual.material, "normalTexture", None)
    return uv[corners], _png(picture), b"" if bumps is None else _png(bumps)


def _picture(visual: Any) -> Any:
    """The material's picture of colours, not decoded yet, or None."""
    picture = getattr(visual.material, "baseColorTexture", None)
    picture = getattr(visual.material, "image", None) if picture is None else picture
    if picture is not None and picture.width * picture.height > MOST_PIXELS:
        raise ValueError(f"its texture has {picture.width} x {picture.height} pixels, too many")
    return picture


def _is_flat(picture: Any) -> bool:
    return all(low == high for low, high in picture.convert("RGB").getextrema())


def _one_color(visual: Any) -> np.ndarray | None:
    """(3,) uint8 sRGB that all of a material has, or None; trimesh's own grey is no colour."""
    if visual.kind != "texture":
        return None
    picture = _picture(visual)
    if picture is None:
        flat = np.asarray(visual.material.main_color)[:3]
        if hasattr(visual.material, "baseColorFactor"):  # glTF's, linear light
            if visual.material.baseColorFactor is None:
                return None
            flat = np.rint(linear_to_srgb(flat / 255.0) * 255.0)
    elif _is_flat(picture):
        flat = np.asarray(picture.convert("RGB").getpixel((0, 0)))
    else:
        return None
    return None if (flat == TRIMESH_GREY).all() else flat.astype(np.uint8)


def _png(picture: Any) -> bytes:
    if picture.width * picture.height > MOST_PIXELS:
        raise ValueError(f"its texture has {picture.width} x {picture.height} pixels, too many")
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, "png", compress_level=3)
    return buffer.getvalue()


def texels_of(color_png: bytes) -> np.ndarray:
    """(H, W, 3) uint8 of a model's `color_png`."""
    from PIL import Image

    with Image.open(io.BytesIO(color_png)) as picture:
        return np.asarray(picture.convert("RGB"))
