"""Let a person feed a stage ordinary files: pictures, meshes, text, .npy of other names.

Used when a stage is run by itself (`stage NAME --input key=path`); between stages there are only the
files of `stages.common.codec`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.contract import ArtifactSpec, BadInput, Mesh

if TYPE_CHECKING:
    import numpy as np

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
_MESHES = (".glb", ".obj", ".ply", ".stl")


def read_any(spec: ArtifactSpec, path: Path) -> Any:
    """The value that `path` holds, as `spec` wants it. Raises `BadInput` when it cannot be that.

    A picture becomes an array of the spec's dtype (float in [0, 1]) and channel count; N square
    tiles side by side become (N, S, S, C) where the spec has four dimensions.
    """
    suffix = path.suffix.lower()
    try:
        if spec.kind == "file":
            return path.read_bytes()
        if spec.kind == "text":
            return path.read_text(encoding="utf-8")
        if spec.kind == "mesh" and suffix in _MESHES:
            return _read_mesh(path)
        if spec.kind == "image" and suffix in _PICTURES:
            return _read_picture(spec, path)
        if spec.kind in ("array", "image") and suffix == ".npy":
            return _read_npy(path)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: {error}") from error
    wanted = {
        "mesh": _MESHES, "image": (".npy", *_PICTURES), "array": (".npy",)
    }[spec.kind]  # fmt: skip
    raise BadInput(
        f"{path} cannot be the input {spec.name}", f"its kind is {spec.kind}: {' '.join(wanted)}"
    )


def _read_npy(path: Path) -> np.ndarray:
    import numpy as np

    array: np.ndarray = np.load(path, allow_pickle=False)
    return array


def _read_mesh(path: Path) -> Mesh:
    import numpy as np
    import trimesh

    loaded = trimesh.load(path, force="mesh", process=False)
    colors = None
    if loaded.visual.kind == "vertex":
        colors = np.asarray(loaded.visual.vertex_colors)[:, :3].astype(np.uint8)
    return Mesh(
        np.asarray(loaded.vertices, dtype=np.float32),
        np.asarray(loaded.faces, dtype=np.int32),
        colors,
    )


def _read_picture(spec: ArtifactSpec, path: Path) -> np.ndarray:
    import numpy as np
    from PIL import Image

    channels = spec.shape[-1] if spec.shape else 3
    mode = {1: "L", 3: "RGB", 4: "RGBA"}.get(channels if isinstance(channels, int) else 3, "RGB")
    with Image.open(path) as image:
        pixels = np.asarray(image.convert(mode))
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if len(spec.shape) == 4:
        side = pixels.shape[0]
        tiles = pixels.shape[1] // side
        pixels = pixels.reshape(side, tiles, side, -1).transpose(1, 0, 2, 3)
    if spec.dtype == "float32":
        return pixels.astype(np.float32) / 255.0
    return np.ascontiguousarray(pixels)
