"""Models of transformers from local folders, and the numbers they compute in."""

from __future__ import annotations

import math
import platform
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from stages.contract import Context
from stages.streaming.layout import DTYPES
from stages.weights.checkpoint import readable, require_fit


def from_folder(
    cls: Any, folder: Path, dtype: torch.dtype | None = None, exact: bool = False
) -> Any:
    """`cls.from_pretrained` of a folder on this machine, ready for inference on the CPU.

    Only safetensors, no code from the folder, no network. Weights stay mapped from the file as
    long as they are of the asked for dtype, so they take no memory of their own; dtype None keeps
    what is stored. Raises `StageError` (missing_weights) for a damaged folder, and for weights of
    another model, which transformers would make up for with random ones; with `exact` also for
    weights that the model has no place for.
    """
    with readable(folder):
        model, fit = cls.from_pretrained(
            folder,
            dtype=_stored_dtype(folder) if dtype is None else dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused by name below
        )
        misshapen = [name for name, *_ in fit["mismatched_keys"]]
        surplus = fit["unexpected_keys"] if exact else ()
        require_fit(folder, fit["missing_keys"], surplus, misshapen)
    return model.eval().requires_grad_(False)


def _stored_dtype(folder: Path) -> torch.dtype | str:
    """The dtype of the largest tensor in a folder's first file.

    A config.json may say another; transformers would believe it, and hold T5-XXL in float32.
    """
    file = min(folder.glob("*.safetensors"), default=None)
    if file is None:
        return "auto"  # from_pretrained tells what is missing
    with safe_open(file, "pt") as opened:
        found = [opened.get_slice(name) for name in opened.keys()]  # noqa: SIM118 (no mapping)
        largest = max(found, key=lambda tensor: math.prod(tensor.get_shape()), default=None)
        return "auto" if largest is None else DTYPES.get(largest.get_dtype(), "auto")


def tokenizer_from_folder(cls: Any, folder: Path) -> Any:
    """The tokenizer or processor of a folder on this machine.

    Raises `StageError` (missing_weights) for a damaged folder.
    """
    with readable(folder):
        return cls.from_pretrained(folder, local_files_only=True)


def compute_dtype(context: Context) -> torch.dtype:
    """What to compute in where the profile asks for `context.dtype`.

    bfloat16 is emulated, and slow, on a CPU without instructions for it: float32 there, which
    loses nothing.
    """
    dtype: torch.dtype = getattr(torch, context.dtype)
    if context.device == "cpu" and dtype == torch.bfloat16 and not has_native_bfloat16():
        return torch.float32
    return dtype


def has_native_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware (AVX512-BF16, AMX, Arm BF16)."""
    if platform.machine() in ("x86_64", "AMD64"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    if not torch.backends.mkldnn.is_available():
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class TokenProgress:
    """A stopping criterion of `generate` that stops nothing, but tells `context.progress` of every
    token. What is generated may be much shorter than `limit`.
    """

    def __init__(self, context: Context, limit: int) -> None:
        self._context = context
        self._limit = limit
        self._count = 0

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self._count += 1
        self._context.progress(min(self._count, self._limit - 1), self._limit, "tokens")
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
