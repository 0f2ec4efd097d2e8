"""Opening a .npy file whose header may lie: what it announces is held to the file's real length
before any memory is taken for it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import numpy as np

_HEADER_BYTES = 10_000
"""numpy's own limit, which it looks at when it has read that much. Ours are of 118 bytes."""


def map_npy(path: Path) -> np.ndarray:
    """A .npy file as a read-only array, mapped. Raises OSError, or ValueError as `npy_layout`."""
    import numpy as np

    with path.open("rb") as stream:
        npy_layout(stream, path.stat().st_size)
    return np.lib.format.open_memmap(path, mode="r")


def npy_layout(stream: BinaryIO, size: int) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of a .npy file of `size` bytes, of which the header alone is read.

    Raises ValueError where it is none, holds Python objects, or announces another length than it
    has: a file of 100 bytes may claim to have 4 GiB, of data or of header.
    """
    import numpy as np

    start = stream.read(12)
    width = 2 if start[6:7] == b"\x01" else 4
    header = int.from_bytes(start[8 : 8 + width], "little")
    if len(start) < 12 or header > min(size, _HEADER_BYTES):
        raise ValueError("not a .npy file")
    stream.seek(0)
    try:
        version = np.lib.format.read_magic(stream)
        reader = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = reader(stream)
    except Exception as error:  # the header is a Python literal, which can be wrong in many ways
        raise ValueError(f"not a .npy file ({error})") from error
    if dtype.hasobject:
        raise ValueError("object arrays are not allowed")
    promised = stream.tell() + dtype.itemsize * math.prod(shape)
    if size != promised or min(shape, default=0) < 0:
        raise ValueError(f"has {size} bytes, its header promises {promised}")
    return shape, dtype
