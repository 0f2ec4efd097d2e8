"""The model's sizes. The defaults are the published ones; `prm.json` beside a checkpoint of
another size names those that differ."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

from stages.contract import StageError

CONFIG_FILE = "prm.json"


@dataclass(frozen=True)
class EncoderConfig:
    """The image encoder: DINO ViT-B/16, modulated by the camera.

    image_size  side of the images whose patches the learned position embeddings belong to
    """

    hidden: int = 768
    layers: int = 12
    heads: int = 12
    mlp: int = 3072
    patch: int = 16
    image_size: int = 224


@dataclass(frozen=True)
class TransformerConfig:
    """The triplane transformer. Its planes have 2 * `low_res` cells a side (one deconvolution)."""

    dim: int = 1024
    layers: int = 16
    heads: int = 16
    low_res: int = 32
    plane_dim: int = 80


@dataclass(frozen=True)
class PrmConfig:
    """Everything that sizes the weights; the grid that the field is sampled on does not."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)

    @classmethod
    def beside(cls, checkpoint: Path) -> PrmConfig:
        """The config of a checkpoint: `prm.json` in its folder, or the published sizes.

        Raises StageError (missing_weights) if that file is not a config.
        """
        path = checkpoint.parent / CONFIG_FILE
        if not path.is_file():
            return cls()
        try:
            return _build(cls, json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise StageError(
                "missing_weights",
                f"{path} does not describe a PRM model: {error}",
                f"fields: {', '.join(asdict(cls()))}; delete the file for the published sizes",
            ) from error

    def write(self, folder: Path) -> None:
        """Leave this config where `beside` finds it."""
        text = json.dumps(asdict(self), indent=2) + "\n"
        (folder / CONFIG_FILE).write_text(text, encoding="utf-8")


def _build(kind: type, data: dict[str, Any]) -> Any:
    """A config dataclass from nested dicts. Raises TypeError for unknown or mistyped fields."""
    if not isinstance(data, dict):
        raise TypeError(f"expected a map of fields, got {data!r}")
    defaults = kind()
    known = {each.name: getattr(defaults, each.name) for each in fields(kind)}
    values: dict[str, Any] = {}
    for name, value in data.items():
        if name not in known:
            raise TypeError(f"unknown field {name!r}")
        default = known[name]
        if is_dataclass(default):
            values[name] = _build(type(default), value)
        elif isinstance(value, bool) or not isinstance(value, (int, type(default))) or value <= 0:
            raise TypeError(f"{name} has to be a positive {type(default).__name__}, not {value!r}")
        else:
            values[name] = value
    return kind(**values)
