"""Let a person feed a stage ordinary files: pictures, meshes, text, .npy of other names.

Used when a stage is run by itself (`stage NAME --input key=path`); between stages there are only
the files of `stages.contract.codec`.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.contract.glb import own_bytes, require_fitting
from stages.contract.npy import npy_layout
from stages.contract.stage import ArtifactSpec, BadInput, Mesh

if TYPE_CHECKING:
    import numpy as np

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_MESHES = (".glb", ".obj", ".ply", ".stl")


def read_any(spec: ArtifactSpec, path: Path) -> Any:
    """The value that `path` holds, as `spec` wants it. Raises `BadInput` when it cannot be that.

    A picture becomes an array of the spec's dtype (float in [0, 1]) and channel count; N square
    tiles side by side become (N, S, S, C) where the spec has four dimensions.
    """
    reader = _reader(spec, path.suffix.lower())
    if reader is not None:
        try:
            value = reader(spec, path)
            spec.check(value)
            return value
        except (ImportError, MemoryError, BadInput):
            raise
        except Exception as error:  # each library has its own exceptions for a broken file
            raise BadInput(
                f"{path} is no usable {spec.kind}: {error}",
                "it may be damaged or cut off: copy it again, or save it anew where it was made",
            ) from error
    wanted = {
        "mesh": _MESHES, "image": (".npy", *_PICTURES), "array": (".npy",)
    }[spec.kind]  # fmt: skip
    raise BadInput(
        f"{path} cannot be the input {spec.name}",
        f"such a file is one of {' '.join(wanted)}",
    )


def _reader(spec: ArtifactSpec, suffix: str) -> Callable[[ArtifactSpec, Path], Any] | None:
    if spec.kind == "file":
        return lambda _, path: path.read_bytes()
    if spec.kind == "text":
        return lambda _, path: path.read_text(encoding="utf-8")
    if spec.kind == "mesh":
        return _read_mesh if suffix in _MESHES else None
    if spec.kind == "image" and suffix in _PICTURES:
        return _read_picture
    return _read_npy if suffix == ".npy" else None


def _read_npy(_: ArtifactSpec, path: Path) -> np.ndarray:
    import numpy as np

    with path.open("rb") as stream:
        npy_layout(stream, path.stat().st_size)
        stream.seek(0)
        return np.lib.format.read_array(stream, allow_pickle=False)


def _read_mesh(_: ArtifactSpec, path: Path) -> Mesh:
    import numpy as np

    from stages.contract.srgb import linear_to_srgb

    loaded = _loaded(path)
    vertices = np.asarray(loaded.vertices, dtype=np.float32)
    faces = np.asarray(loaded.faces, dtype=np.int32)
    if faces.size and not 0 <= faces.min() <= faces.max() < len(vertices):
        raise ValueError("a face names a vertex that is not there")
    colors = None
    if loaded.visual.kind == "vertex":
        colors = np.asarray(loaded.visual.vertex_colors)[:, :3].astype(np.uint8)
        if path.suffix.lower() in (".glb", ".gltf"):  # glTF's are linear light
            colors = np.rint(linear_to_srgb(colors / 255.0) * 255.0).astype(np.uint8)
    elif loaded.visual.kind == "texture":
        colors = _texture_colors(loaded.visual, len(vertices))
        # The file has the vertices of a seam once a side: here the surface is whole again.
        vertices, first, inverse = np.unique(
            vertices, axis=0, return_index=True, return_inverse=True
        )
        faces = inverse.reshape(-1)[faces].astype(np.int32)
        colors = None if colors is None else colors[first]
    return Mesh(vertices, faces, colors)


def _loaded(path: Path) -> Any:
    """The mesh as trimesh has it. Raises ValueError in words for people: trimesh speaks of the
    arrays that it stumbles over."""
    import trimesh

    source: Any = path
    if path.suffix.lower() == ".glb":
        content = own_bytes(path.read_bytes())
        require_fitting(content)
        source = io.BytesIO(content)
    beside: Any = trimesh.resolvers.FilePathResolver(str(path))
    try:
        return trimesh.load(source, path.suffix[1:].lower(), beside, "mesh", process=False)
    except (ImportError, MemoryError, OSError):
        raise
    except Exception as error:
        raise ValueError("what it says of itself does not fit what it holds") from error


def _texture_colors(visual: Any, count: int) -> np.ndarray | None:
    """(V, 3) uint8 sRGB of a texture at the vertices; None without a picture that fits."""
    import numpy as np

    picture = getattr(visual.material, "baseColorTexture", None)
    if picture is None:
        picture = getattr(visual.material, "image", None)
    if picture is None or visual.uv is None or len(visual.uv) != count:
        return None
    texels = np.asarray(picture.convert("RGB"))
    size = (texels.shape[1], texels.shape[0])
    at = np.nan_to_num(np.asarray(visual.uv, np.float64) % 1.0) * size
    column, row = np.minimum(at.astype(np.int64), np.array(size) - 1).T
    return np.asarray(texels[texels.shape[0] - 1 - row, column])


def _read_picture(spec: ArtifactSpec, path: Path) -> np.ndarray:
    import numpy as np
    from PIL import Image

    channels = spec.shape[-1] if spec.shape else 3
    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(channels if isinstance(channels, int) else 3, "RGB")
    with Image.open(path) as opened:
        image: Image.Image = opened
        if mode == "RGB" and image.has_transparency_data:
            rgba = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        pixels = np.asarray(image.convert(mode))
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if len(spec.shape) == 4:
        side = pixels.shape[0]
        tiles, rest = divmod(pixels.shape[1], side)
        if rest:
            raise BadInput(
                f"{path} is {pixels.shape[1]} x {side}, which is no row of square tiles",
                f"{spec.name} is a row of tiles side by side, each as wide as it is high",
            )
        pixels = pixels.reshape(side, tiles, side, -1).transpose(1, 0, 2, 3)
    if spec.dtype == "float32":
        return pixels.astype(np.float32) / 255.0
    return np.ascontiguousarray(pixels)
