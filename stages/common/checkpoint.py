"""State dicts from files, without ever running a pickle's code."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.contract import StageError

if TYPE_CHECKING:
    import torch

NAMES_SHOWN = 4
"""Of the keys that do not fit, so that an error stays readable."""
SOURCE_SIZE = "kiss3d.source_size"
"""Metadata key of a converted file: bytes of the file that it was made of."""
MISFIT_HINT = (
    "it is incomplete or of another model: get it again (kiss3d-orchestrate models pull), "
    "or correct the path that names it"
)
_UNSUPPORTED = re.compile(r"[Uu]nsupported (global|GLOBAL|class|operand)[^\n]*")
"""What torch's text names besides tensors and plain containers. An unknown operand is no code: the
file is damaged, or nothing that torch.save wrote."""


def load_state_dict(path: Path, prefix: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors, .ckpt, .pth or .bin file, on the CPU, mapped from the file.

    A .safetensors file beside another kind of file (`models convert` makes it) is read in its
    place, unless it was made of another file. A Lightning checkpoint is unwrapped (`state_dict`).
    prefix: keep only keys that start with it, and strip it.
    Raises `StageError` of kind missing_weights: the file is damaged, or holds more than tensors.
    """
    converted = converted_file(path)
    tensors = _read_safetensors(converted) if converted else read_pickled(path)
    return {key[len(prefix) :]: tensor for key, tensor in tensors.items() if key.startswith(prefix)}


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what a library raises while it reads `path` into StageError (missing_weights).

    For reading alone: what a device raises is not the file's fault.
    """
    try:
        yield
    except (ImportError, MemoryError, StageError):
        raise
    except Exception as error:  # each library has its own exceptions for a broken file
        reason = f"no entry {error}" if isinstance(error, KeyError) else str(error)
        raise _damaged(path, reason.strip() or type(error).__name__) from error


def shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Sizes by name, for `require_shapes`."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def require_shapes(
    source: object,
    wanted: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
    hint: str = MISFIT_HINT,
) -> None:
    """As `require_fit`, of the sizes by name that a model wants and that `source` holds."""
    misshapen = [
        f"{name}: {found[name]}, expected {wanted[name]}"
        for name in wanted.keys() & found.keys()
        if found[name] != wanted[name]
    ]
    missing, surplus = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    require_fit(source, missing, surplus, misshapen, hint)


def require_fit(
    source: object,
    missing: Collection[str],
    surplus: Collection[str] = (),
    misshapen: Collection[str] = (),
    hint: str = MISFIT_HINT,
) -> None:
    """Raise `misfit` that names the keys of `source` which do not fit a model, if there are any."""
    faults = [
        f"{len(names)} {what} ({', '.join(sorted(names)[:NAMES_SHOWN])}"
        + (", ...)" if len(names) > NAMES_SHOWN else ")")
        for what, names in (
            ("missing", missing),
            ("surplus", surplus),
            ("of another shape", misshapen),
        )
        if names
    ]
    if faults:
        raise misfit(source, f"weights {'; '.join(faults)}", hint)


def misfit(source: object, reason: str, hint: str = MISFIT_HINT) -> StageError:
    """What every stage raises for whole, readable weights that are not those of its model.

    source  a path, or the name by which the user knows the weights
    """
    return StageError("missing_weights", f"{source} does not fit the model: {reason}", hint)


def converted_file(path: Path) -> Path | None:
    """The .safetensors file to read in place of `path`, which may be `path` itself."""
    twin = path.with_suffix(".safetensors")
    if not twin.is_file():
        return None
    if twin == path or not path.is_file():
        return twin
    source = path.stat()
    size = _metadata(twin).get(SOURCE_SIZE)
    stale = size is not None and (int(size) != source.st_size or _older(twin, source.st_mtime_ns))
    return None if stale else twin


def made_by_us(path: Path) -> bool:
    """Whether `models convert` wrote this .safetensors file. Raises `StageError`: damaged."""
    return SOURCE_SIZE in _metadata(path)


def _older(path: Path, than_ns: int) -> bool:
    return path.stat().st_mtime_ns < than_ns


def _metadata(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise _damaged(path, error) from error


def read_pickled(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file that torch.save wrote, unwrapped. Raises `StageError`."""
    import torch

    try:
        # Only the zip format can be mapped; older files are read as a whole.
        loaded: Any = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError as error:
        found = _UNSUPPORTED.search(str(error))
        if found and found[1] != "operand":
            raise _refused(path, found[0].partition(". ")[0]) from error
        raise _damaged(path, found[0] if found else "it is no file of torch.save") from error
    except (RuntimeError, EOFError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    if isinstance(loaded, dict):
        loaded = loaded.get("state_dict", loaded)
    if not isinstance(loaded, dict):
        raise _damaged(path, "it holds no state dict")
    tensors = {str(key): value for key, value in loaded.items() if isinstance(value, torch.Tensor)}
    if loaded and not tensors:
        raise _damaged(path, "it holds no state dict")
    return tensors


def _refused(path: Path, reason: str) -> StageError:
    return StageError(
        "missing_weights",
        f"{path} is refused: besides tensors it asks for code to be run ({reason})",
        "do not load it elsewhere either, unless you trust who made it; ask them for .safetensors",
    )


def _damaged(path: Path, error: object) -> StageError:
    reason = str(error).partition("\n")[0]
    return StageError(
        "missing_weights",
        f"{path} cannot be read: {reason}",
        "kiss3d-orchestrate models verify says which files are damaged; pull --repair mends them",
    )
