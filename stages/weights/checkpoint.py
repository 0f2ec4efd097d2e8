"""State dicts from files, without ever running a pickle's code."""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stages.contract import StageError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

NAMES_SHOWN = 4
"""Of the keys that do not fit, so that an error stays readable."""
SOURCE_SIZE = "kiss3d.source_size"
"""Metadata key of a converted file: bytes of the file that it was made of."""
MISFIT_HINT = (
    "it is incomplete or of another model: get it again (kiss3d-orchestrate models pull), "
    "or correct the path that names it"
)
CONVERTER = "stages.weights.convert"


def load_state_dict(path: Path, prefix: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a .safetensors, .ckpt, .pth or .bin file, on the CPU, mapped from the file.

    A .safetensors file beside another kind of file (`models convert` makes it) is read in its
    place, unless it was made of another file. A Lightning checkpoint is unwrapped (`state_dict`).
    prefix: keep only keys that start with it, and strip it.
    Raises `StageError` of kind missing_weights for a file that is damaged or no checkpoint.
    """
    converted = converted_file(path)
    tensors = _read_safetensors(converted) if converted else _read_once(path)
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
    size = metadata(twin).get(SOURCE_SIZE)
    stale = size is not None and (int(size) != source.st_size or _older(twin, source.st_mtime_ns))
    return None if stale else twin


def made_by_us(path: Path) -> bool:
    """Whether `models convert` wrote this .safetensors file. Raises `StageError`: damaged."""
    return SOURCE_SIZE in metadata(path)


def _older(path: Path, than_ns: int) -> bool:
    return path.stat().st_mtime_ns < than_ns


def metadata(path: Path) -> dict[str, str]:
    """The text that a .safetensors file holds beside its tensors; of another kind of file, none.

    Raises `StageError` (missing_weights) if it is damaged.
    """
    if path.suffix != ".safetensors":
        return {}
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


def _read_once(path: Path) -> dict[str, torch.Tensor]:
    """A pickled checkpoint. One that holds more than tensors and plain containers is converted
    first, in a process of its own; where that cannot be (a folder that is not ours to write to) it
    is read here, by the same reader.
    """
    tensors = _read_plain(path)
    if tensors is not None:
        return tensors
    log.info("%s holds more than tensors; converting it to .safetensors", path)
    done = subprocess.run(
        [sys.executable, "-m", CONVERTER, str(path)], stdout=subprocess.PIPE, check=False
    )
    converted = converted_file(path)
    if done.returncode == 0 and converted:
        return _read_safetensors(converted)
    return _read_inert(path)


def read_pickled(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file that torch.save wrote, unwrapped. Raises `StageError`."""
    tensors = _read_plain(path)
    return _read_inert(path) if tensors is None else tensors


def _read_plain(path: Path) -> dict[str, torch.Tensor] | None:
    """By torch's own restricted unpickler, which maps the file; None where it refuses."""
    import torch

    from stages.weights.inert_pickle import refuse_archives

    try:
        refuse_archives(path)
        # Only the zip format can be mapped; older files are read as a whole.
        loaded = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except pickle.UnpicklingError:
        return None
    except (RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise _damaged(path, error) from error
    return _state_dict(loaded, path)


def _read_inert(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file that `_read_plain` has found to be a pickle."""
    import torch

    from stages.weights.inert_pickle import InertPickle

    inert = InertPickle()
    try:
        # weights_only would replace the unpickler, which is stricter than torch's own.
        loaded = torch.load(
            path,
            map_location="cpu",
            pickle_module=inert,
            weights_only=False,
            mmap=zipfile.is_zipfile(path),
        )
    except Exception as error:  # of a hostile file anything may come
        raise _damaged(path, str(error) or type(error).__name__) from error
    if inert.names:
        log.warning(
            "%s: read without these, of which nothing was run: %s",
            path,
            ", ".join(sorted(inert.names)),
        )
    return _state_dict(loaded, path)


def _state_dict(loaded: object, path: Path) -> dict[str, torch.Tensor]:
    import torch

    if isinstance(loaded, dict):
        loaded = loaded.get("state_dict", loaded)
    if not isinstance(loaded, dict):
        raise _damaged(path, "it holds no state dict")
    tensors = {str(key): value for key, value in loaded.items() if isinstance(value, torch.Tensor)}
    if loaded and not tensors:
        raise _damaged(path, "it holds no state dict")
    return tensors


def _damaged(path: Path, error: object) -> StageError:
    reason = str(error).strip().partition("\n")[0]
    return StageError(
        "missing_weights",
        f"{path} cannot be read: {reason}",
        "kiss3d-orchestrate models verify says which files are damaged; pull --repair mends them",
    )
