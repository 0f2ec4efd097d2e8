"""Make a .safetensors file of a checkpoint, once, so that later loads map it.

    python -m stages.weights.convert FILE      prints {"file": ..., "tensors": N} or {"error": ...}

A program of its own because it needs torch, which the parent never imports.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from stages.contract import StageError
from stages.weights.checkpoint import SOURCE_SIZE, made_by_us, read_pickled

if TYPE_CHECKING:
    import torch


def convert(path: Path) -> tuple[Path, int]:
    """Write `path` with suffix .safetensors, atomically; return it and the number of tensors.

    Raises `StageError` (the file is refused or damaged) or OSError (the disk is full, ...).
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    target = path.with_suffix(".safetensors")
    if target.is_file() and not made_by_us(target):
        raise StageError(
            "bad_input",
            f"{target} is there already, and was not made from {path.name}",
            "move one of them to a folder of its own",
        )
    tensors = _separate(read_pickled(path))
    temp = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    metadata = {"format": "pt", SOURCE_SIZE: str(path.stat().st_size)}
    try:
        try:
            save_file(tensors, temp, metadata=metadata)
        except SafetensorError as error:  # the format's own word for a full disk
            raise OSError(f"{error}") from error
        with temp.open("rb+") as stream, _where_there_is_fsync():
            os.fsync(stream.fileno())
        os.replace(temp, target)
    finally:
        temp.unlink(missing_ok=True)
    return target, len(tensors)


@contextlib.contextmanager
def _where_there_is_fsync() -> Iterator[None]:
    """Weights may lie in a network or shared folder, which may have none."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise


def _separate(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous tensors with a memory of their own, which is what the format can hold.

    Tied weights are written once for each of their names: a strict load wants them all.
    """
    seen: set[int] = set()
    separate = {}
    for key, tensor in tensors.items():
        tensor = tensor.detach()
        storage = tensor.untyped_storage()
        whole = storage.nbytes() == tensor.numel() * tensor.element_size()
        if storage.data_ptr() in seen or not whole or not tensor.is_contiguous():
            tensor = tensor.clone().contiguous()
        seen.add(storage.data_ptr())
        separate[key] = tensor
    return separate


def main() -> None:
    path = Path(sys.argv[1])
    try:
        target, count = convert(path)
    except StageError as error:
        print(json.dumps({"error": error.message, "hint": error.hint}))
        sys.exit(1)
    except OSError as error:
        print(json.dumps({"error": f"{path}: {error.strerror or error}", "hint": ""}))
        sys.exit(1)
    print(json.dumps({"file": str(target), "tensors": count}))


if __name__ == "__main__":
    main()
