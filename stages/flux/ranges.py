"""The nets' weights as byte ranges of their files, for placement streamed.

The same files as in `checkpoints`, by the same names, but nothing is mapped: a streamer reads the
bytes of a block when it needs them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from stages.contract import StageError
from stages.flux.bfl_keys import LEAVES, SWAPPED, layer_rows
from stages.flux.checkpoints import (
    ONE_FILE,
    is_bfl,
    locate,
    not_flux,
    of_transformer,
    open_transformer,
    refuse_scaled,
    transformer_config,
)
from stages.streaming.source import TensorRange, open_tensors
from stages.weights.checkpoint import converted_file, misfit

_SWAPPED_HERE = "norm_out.linear"
"""diffusers' name of the layer whose halves BFL swaps; it is outside of blocks."""


@dataclass(frozen=True)
class RangedCheckpoint:
    """config: of diffusers' class; tensors: by diffusers' names; given: those that no range is."""

    name: str
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorRange]
    given: Mapping[str, torch.Tensor] = field(default_factory=dict)


def transformer_ranges(name: str) -> RangedCheckpoint:
    """The FLUX transformer behind a catalogue name or a path: a folder or one file.

    Raises StageError (missing_weights), also for a file that holds something else, or one that
    cannot be streamed. GGUF never comes here: the params refuse it.
    """
    path = locate(name, "transformer")
    if path.is_dir():
        return _folder(name, path)
    file = converted_file(path)
    if file is None:
        raise StageError(
            "missing_weights",
            f"the weights {name} ({path.name}) cannot be streamed: only .safetensors can",
            "set placement to model or resident, or the param transformer to flux1-dev-transformer "
            "or flux1-dev-fp8",
        )
    tensors = of_transformer(open_tensors(file))
    refuse_scaled(name, tensors)
    given = {}
    if is_bfl(tensors):
        tensors = _renamed(name, tensors)
        mapped = open_transformer(name).tensors
        given = {key: mapped[key] for key in mapped if key.startswith(f"{_SWAPPED_HERE}.")}
    try:
        return RangedCheckpoint(name, transformer_config({**tensors, **given}), tensors, given)
    except KeyError as error:
        raise not_flux(name, f"has no {error.args[0]}") from error


def folder_ranges(name: str) -> RangedCheckpoint:
    """A model in diffusers' folder format."""
    return _folder(name, locate(name, ""))


def _folder(name: str, folder: Path) -> RangedCheckpoint:
    if folder.is_file():
        raise misfit(
            name,
            "it is one file; this net is read from a folder",
            "name a folder in diffusers' format, with a config.json",
        )
    sharded = (folder / f"{ONE_FILE}.index.json").is_file()
    tensors = open_tensors(folder if sharded else folder / ONE_FILE)
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StageError(
            "missing_weights",
            f"the weights {name}: {error.filename} is missing",
            f"kiss3d-orchestrate models pull {name}",
        ) from error
    return RangedCheckpoint(name, config, tensors)


def _renamed(name: str, tensors: Mapping[str, TensorRange]) -> dict[str, TensorRange]:
    converted = {}
    for key, tensor in tensors.items():
        layer, _, leaf = key.rpartition(".")
        if layer == SWAPPED:
            continue
        try:
            ours = LEAVES[leaf]
            for target, rows in layer_rows(layer, tensor.shape[0]):
                converted[f"{target}.{ours}"] = tensor.rows(rows.start, rows.stop)
        except KeyError:
            raise not_flux(name, f"holds {key}, which FLUX does not have") from None
    return converted
