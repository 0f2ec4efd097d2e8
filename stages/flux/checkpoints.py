"""The nets' weights from files: diffusers folders, BFL/Comfy single files, GGUF.

Tensors are mapped from the files and named as diffusers names them. No configuration is ever
fetched: a folder has its config.json, and what a single file holds can be read off its shapes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from stages.contract import StageError
from stages.weights import catalogue
from stages.weights.checkpoint import load_state_dict, misfit, readable

ONE_FILE = "diffusion_pytorch_model.safetensors"
_IN_ALL_IN_ONE = "model.diffusion_model."
"""Prefix of the transformer in files that hold the encoders and the VAE as well."""
_Tensor = TypeVar("_Tensor")
"""The tensor itself, or where it is in its file."""
_SCALES = frozenset(
    {"scaled_fp8", "scale_weight", "scale_input", "weight_scale", "input_scale", "comfy_quant"}
)
"""Last parts of names in "scaled" float8 files, as ComfyUI's older and newer ones have them."""


@dataclass(frozen=True)
class Checkpoint:
    """config: of diffusers' class; tensors: by diffusers' parameter names, on the CPU."""

    name: str
    config: Mapping[str, Any]
    tensors: Mapping[str, torch.Tensor]

    @property
    def float8_layers(self) -> frozenset[str]:
        """Layers of which the file has every tensor in float8."""
        small: dict[str, bool] = {}
        for name, tensor in self.tensors.items():
            layer = name.rpartition(".")[0]
            small[layer] = small.get(layer, True) and tensor.dtype is torch.float8_e4m3fn
        return frozenset(layer for layer, is_small in small.items() if is_small)

    @property
    def is_gguf(self) -> bool:
        return any(is_gguf(tensor) for tensor in self.tensors.values())


def is_gguf(tensor: torch.Tensor) -> bool:
    """Whether this is diffusers' GGUFParameter: quantised rows, seen as bytes."""
    return hasattr(tensor, "quant_shape")


def shape_of(tensor: Any) -> tuple[int, ...]:
    """Sizes of a tensor's or a byte range's numbers; a GGUF tensor's own shape is its bytes'."""
    return tuple(getattr(tensor, "quant_shape", tensor.shape))


def open_transformer(name: str) -> Checkpoint:
    """The FLUX transformer behind a catalogue name or a path: a folder, .safetensors or .gguf.

    Raises StageError (missing_weights), also for a file that holds something else.
    """
    path = locate(name, "transformer")
    if path.is_dir():
        return _open_folder(name, path)
    in_file = _read_gguf(name, path) if path.suffix == ".gguf" else load_state_dict(path)
    tensors = of_transformer(in_file)
    refuse_scaled(name, tensors)
    if is_bfl(tensors):
        tensors = _renamed(name, tensors)
    try:
        return Checkpoint(name, transformer_config(tensors), tensors)
    except KeyError as error:
        raise not_flux(name, f"has no {error.args[0]}") from error


def open_folder(name: str, subfolder: str = "") -> Checkpoint:
    """A model in diffusers' folder format, at the top of its repository or in `subfolder`."""
    return _open_folder(name, locate(name, subfolder))


def is_bfl(keys: Iterable[str]) -> bool:
    """Whether a transformer's tensors have Black Forest Labs' names."""
    return any(key.startswith("double_blocks.") for key in keys)


def of_transformer(tensors: Mapping[str, _Tensor]) -> Mapping[str, _Tensor]:
    """A file's tensors without those of other models, by the transformer's own names."""
    inside = {key: of for key, of in tensors.items() if key.startswith(_IN_ALL_IN_ONE)}
    return {key.removeprefix(_IN_ALL_IN_ONE): of for key, of in inside.items()} or tensors


def refuse_scaled(name: str, keys: Iterable[str]) -> None:
    """Raise StageError (missing_weights) for float8 weights that have factors beside them.

    Without the factors they are other weights; with them they are no longer the file's bytes.
    """
    for key in keys:
        if key.rpartition(".")[2] in _SCALES:
            raise misfit(
                name,
                f'it is "scaled" float8: {key} belongs to a factor of its weights, which is not '
                "applied here",
                "name a file in plain float8 (flux1-dev-fp8), or a GGUF file (flux1-dev-gguf-q8)",
            )


def transformer_config(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """What FluxTransformer2DModel has to be, for these tensors to fit.

    Only the split of a head's channels over (index, row, column) leaves no trace in the shapes:
    every FLUX has 1/8, 7/16, 7/16. Raises `KeyError` when a layer is missing.
    """
    width, channels = shape_of(tensors["x_embedder.weight"])
    head = shape_of(tensors["transformer_blocks.0.attn.norm_q.weight"])[0]
    return {
        "patch_size": 1,
        "in_channels": channels,
        "out_channels": shape_of(tensors["proj_out.weight"])[0],
        "num_layers": _count(tensors, "transformer_blocks"),
        "num_single_layers": _count(tensors, "single_transformer_blocks"),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": shape_of(tensors["context_embedder.weight"])[1],
        "pooled_projection_dim": shape_of(tensors["time_text_embed.text_embedder.linear_1.weight"])[
            1
        ],
        "guidance_embeds": "time_text_embed.guidance_embedder.linear_1.weight" in tensors,
        "axes_dims_rope": (head // 8, 7 * head // 16, 7 * head // 16),
    }


def locate(name: str, subfolder: str) -> Path:
    """The file of a catalogue name or a path, or its folder (in `subfolder` if that exists)."""
    entry = catalogue.catalogue().get(name)
    if entry is None and Path(name).is_file():
        return Path(name)
    if entry is not None and "*" not in entry.files[0] and len(entry.files) == 1:
        return catalogue.find_file(name)
    folder = catalogue.find(name)
    return folder / subfolder if (folder / subfolder).is_dir() else folder


def _open_folder(name: str, folder: Path) -> Checkpoint:
    if folder.is_file():
        raise misfit(
            name,
            "it is one file; this net is read from a folder",
            "name a folder in diffusers' format, with a config.json",
        )
    config = folder / "config.json"
    index = folder / f"{ONE_FILE}.index.json"
    try:
        files = [ONE_FILE]
        if index.is_file():
            files = sorted(set(_read_json(index)["weight_map"].values()))
        tensors: dict[str, torch.Tensor] = {}
        for file in files:
            # A name from the index must not lead out of the folder.
            tensors.update(load_state_dict(folder / Path(file).name))
        return Checkpoint(name, _read_json(config), tensors)
    except FileNotFoundError as error:
        raise StageError(
            "missing_weights",
            f"the weights {name}: {error.filename} is missing",
            f"kiss3d-orchestrate models pull {name}",
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    """Raises FileNotFoundError, and StageError (missing_weights) for a damaged file."""
    content = path.read_bytes()
    with readable(path):
        return dict(json.loads(content))


def _renamed(name: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    from stages.flux.bfl_keys import to_diffusers

    try:
        return to_diffusers(tensors)
    except KeyError as error:
        raise not_flux(name, f"holds {error.args[0]}, which FLUX does not have") from error


def not_flux(name: str, what: str) -> StageError:
    return misfit(
        name,
        f"it is not a FLUX transformer: the file {what}",
        "set the param transformer to another file",
    )


def _read_gguf(name: str, path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a GGUF file, mapped; quantised ones as diffusers' GGUFParameter."""
    import gguf
    from diffusers.quantizers.gguf.utils import SUPPORTED_GGUF_QUANT_TYPES, GGUFParameter

    plain = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16)
    tensors: dict[str, torch.Tensor] = {}
    # Copy-on-write: nothing is copied, and torch does not warn of memory that it may not write.
    for entry in gguf.GGUFReader(path, mode="c").tensors:
        data = torch.from_numpy(entry.data)
        if entry.tensor_type in plain:
            tensors[entry.name] = data
        elif entry.tensor_type in SUPPORTED_GGUF_QUANT_TYPES:
            tensors[entry.name] = GGUFParameter(data, quant_type=entry.tensor_type)
        else:
            raise not_flux(name, f"is quantised as {entry.tensor_type.name}, which nothing reads")
    return tensors


def _count(tensors: Mapping[str, Any], stack: str) -> int:
    numbers = {key.split(".")[1] for key in tensors if key.startswith(f"{stack}.")}
    return len(numbers)
