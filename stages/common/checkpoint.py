"""State dicts from files, without ever running a pickle's code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def load_state_dict(path: Path, prefix: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors, .ckpt, .pth or .bin file, on the CPU, mapped from the file.

    A .safetensors file beside another kind of file (`models convert` makes it) is read in its
    place. A Lightning checkpoint is unwrapped (`state_dict`). prefix: keep only keys that start
    with it, and strip it.
    """
    converted = path.with_suffix(".safetensors")
    if converted.is_file():
        from safetensors.torch import load_file

        tensors = load_file(converted)
    else:
        import torch

        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        tensors = loaded.get("state_dict", loaded)
    return {key[len(prefix) :]: tensor for key, tensor in tensors.items() if key.startswith(prefix)}
