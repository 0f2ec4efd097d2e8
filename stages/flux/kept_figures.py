"""What was measured on this machine, kept for later runs: figures by name in small JSON files."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import torch


def cache_folder() -> Path:
    """Where figures and compiled blocks are kept, for all runs of this user."""
    import platformdirs

    return Path(platformdirs.user_cache_path("kiss3d-orchestrate")) / "flux"


def file_name(what: str, device: torch.device, *words: object) -> str:
    """For figures that hold for one kind of card, one torch, and these words."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    parts = [what, card, torch.__version__, *map(str, words)]
    return re.sub(r"[^A-Za-z0-9.]+", "-", " ".join(parts)) + ".json"


def read_figures(file: Path) -> dict[str, float]:
    """Empty where nothing was kept, or the file is damaged."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        found = {str(name): float(value) for name, value in content.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    return found if all(0 < value < float("inf") for value in found.values()) else {}


def write_figures(file: Path, figures: Mapping[str, float]) -> None:
    """Where the folder cannot be written to, later runs measure again."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(dict(figures)), encoding="utf-8")
        part.replace(file)
