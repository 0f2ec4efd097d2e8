"""How an artifact's value becomes files and back. No pickle in either direction.

array, image   NAME.npy                (image also NAME.png, a preview for people)
mesh           NAME.vertices.npy  NAME.faces.npy  [NAME.colors.npy]
text           NAME.txt                UTF-8
file           the file name of its spec, or NAME + suffix
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from stages.contract.npy import map_npy, npy_layout
from stages.contract.stage import ArtifactSpec, ContractError, Mesh
from stages.contract.user_files import read_any

if TYPE_CHECKING:
    import numpy as np

MESH_PARTS = ("vertices", "faces", "colors")


def file_names(spec: ArtifactSpec) -> tuple[str, ...]:
    """Names of all files that an artifact may consist of, required ones first."""
    if spec.kind == "mesh":
        return tuple(f"{spec.name}.{part}.npy" for part in MESH_PARTS)
    if spec.kind == "text":
        return (f"{spec.name}.txt",)
    if spec.kind == "file":
        return (spec.filename or f"{spec.name}{spec.suffix}",)
    return (f"{spec.name}.npy",)


def required_files(spec: ArtifactSpec) -> tuple[str, ...]:
    """The files without which the artifact is not there."""
    names = file_names(spec)
    return names[:2] if spec.kind == "mesh" else names


def payloads(spec: ArtifactSpec, value: Any) -> Iterator[tuple[str, np.ndarray | bytes]]:
    """The files of a checked value: (file name, array to be saved as .npy, or raw bytes)."""
    names = file_names(spec)
    if spec.kind == "mesh":
        for name, part in zip(names, MESH_PARTS, strict=True):
            array = getattr(value, part)
            if array is not None:
                yield name, array
    elif spec.kind == "text":
        yield names[0], value.encode()
    else:
        yield names[0], value


def _own_name(spec: ArtifactSpec, name: str) -> str:
    """The name that a file would have if the spec's own stage had written it."""
    for part in MESH_PARTS if spec.kind == "mesh" else ():
        if name.endswith(f".{part}.npy"):
            return f"{spec.name}.{part}.npy"
    return name


def payload_size(payload: np.ndarray | bytes) -> int:
    """Bytes that the file will have, the .npy header's 128 included."""
    return len(payload) if isinstance(payload, bytes) else payload.nbytes + 128


def write_payload(stream: BinaryIO, payload: np.ndarray | bytes) -> None:
    """Write the file's content; arrays straight from their own memory."""
    if isinstance(payload, bytes):
        stream.write(payload)
        return
    import numpy as np

    array = np.asarray(payload, order="C")
    header = np.lib.format.header_data_from_array_1_0(array)
    np.lib.format.write_array_header_1_0(stream, header)
    # Not numpy's own writer: on a full disk that raises an OSError without an errno.
    stream.write(array.reshape(-1).view(np.uint8).data)


def payload_bytes(payload: np.ndarray | bytes) -> bytes:
    """The file's content in memory."""
    buffer = io.BytesIO()
    write_payload(buffer, payload)
    return buffer.getvalue()


def read(spec: ArtifactSpec, paths: Sequence[Path]) -> Any:
    """The value behind an artifact's files; arrays are mapped read-only, not read.

    A single file of another name is one that a person gave: see `stages.contract.user_files`. The
    parts of a mesh may have another name in common: that under which its stage wrote it.
    Raises `ContractError` when a file is missing or is not what its name says.
    """
    by_name = {_own_name(spec, path.name): path for path in paths}
    if len(paths) == 1 and not set(by_name) & set(file_names(spec)):
        return read_any(spec, paths[0])
    missing = [name for name in required_files(spec) if name not in by_name]
    if missing:
        raise ContractError(f"{spec.name}: {', '.join(missing)} is missing")
    try:
        if spec.kind == "mesh":
            parts = {
                part: _map_array(part_spec, by_name[f"{spec.name}.{part}.npy"])
                for part, part_spec in zip(MESH_PARTS, spec.mesh_parts(), strict=True)
                if f"{spec.name}.{part}.npy" in by_name
            }
            return Mesh(**parts)
        path = by_name[file_names(spec)[0]]
        if spec.kind == "text":
            return path.read_bytes().decode()  # read_text would change line ends
        if spec.kind == "file":
            return path.read_bytes()
        return _map_array(spec, path)
    except (OSError, ValueError) as error:
        raise ContractError(f"{spec.name}: {error}") from error


def _map_array(spec: ArtifactSpec, path: Path) -> np.ndarray:
    """Only the layout is checked: the values were, before the stage handed them over."""
    array = map_npy(path)
    spec.check_layout(array.shape, array.dtype)
    return array


def check_header(spec: ArtifactSpec, file: str, stream: BinaryIO, size: int) -> None:
    """Hold the header of an artifact's .npy file to its spec without reading the data.

    file, size: its name and its length in bytes.

    The parent runs this on what a child hands over, so that a broken child cannot plant a wrong
    shape. Raises `ContractError`.
    """
    if spec.kind not in ("array", "image", "mesh"):
        return
    if spec.kind == "mesh":
        spec = next(part for part in spec.mesh_parts() if file == f"{part.name}.npy")
    try:
        shape, dtype = npy_layout(stream, size)
    except ValueError as error:
        raise ContractError(f"{spec.name}: {error}") from error
    spec.check_layout(shape, dtype)


def preview_png(array: np.ndarray) -> bytes:
    """A PNG of an image artifact: (N, H, W, C) becomes one row of tiles."""
    import numpy as np
    from PIL import Image

    tiles = array if array.ndim == 3 else np.concatenate(list(array), axis=1)
    if tiles.dtype.kind == "f":
        tiles = (np.clip(tiles, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    if tiles.shape[-1] == 1:
        tiles = tiles[..., 0]
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(tiles)).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def as_inputs(specs: Sequence[ArtifactSpec], files: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    """Read a stage's inputs; an optional one without files is left out."""
    values: dict[str, Any] = {}
    for spec in specs:
        if files.get(spec.name):
            values[spec.name] = read(spec, files[spec.name])
        elif not spec.optional:
            raise ContractError(f"input {spec.name} was not given")
    return values
