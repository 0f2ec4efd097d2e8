"""Where the weights are: from a name in configs/models.yaml to files on this machine.

Read by stages (to load) and by the parent (to say what is missing before anything starts), so it
imports nothing heavy. Looked at in this order:

    $KISS3D_MODELS/<name>/                    a folder of one's own, laid out as the repository is
    the Hugging Face cache ($HF_HOME, ...)    where `models pull` and other programs put it
    <user cache>/kiss3d-orchestrate/models/<name>/    plain files, those with a url
"""

from __future__ import annotations

import fnmatch
import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.contract import StageError

_HERE = Path(__file__).resolve().parent
FOLDER_VARIABLE = "KISS3D_MODELS"


@dataclass(frozen=True)
class Model:
    """One entry of the catalogue; configs/models.yaml explains the fields."""

    name: str
    files: tuple[str, ...]
    size_gb: float
    licence: str
    repo: str = ""
    revision: str = "main"
    url: str = ""
    md5: str = ""
    gated: bool = False


@functools.cache
def catalogue() -> dict[str, Model]:
    """All entries by name."""
    import yaml

    checkout = _HERE.parent / "configs" / "models.yaml"
    installed = _HERE.parent / "orchestrator" / "configs" / "models.yaml"
    path = checkout if checkout.is_file() else installed
    data: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        name: Model(name=name, **{**entry, "files": tuple(entry["files"])})
        for name, entry in data.items()
    }


def find(name: str) -> Path:
    """The folder that holds a model's files, laid out as in its repository.

    name: of the catalogue, or the path of a folder that exists (one's own weights).
    Raises `StageError` of kind missing_weights.
    """
    found = locate(name)
    if found is None:
        raise StageError(
            "missing_weights",
            f"the weights {name} are not on this machine",
            f"kiss3d-orchestrate models pull {name}",
        )
    return found


def find_file(name: str) -> Path:
    """The one file of a model that has only one (a checkpoint), or a path to such a file.

    Raises `StageError` of kind missing_weights.
    """
    own = Path(name)
    if own.is_file():
        return own
    return find(name) / catalogue()[name].files[0]


def locate(name: str) -> Path | None:
    """As `find`, but None where the files are missing or incomplete."""
    model = catalogue().get(name)
    if model is None:
        own = Path(name)
        return own if own.exists() else None
    for folder in _candidates(model):
        if is_complete(model, folder):
            return folder
    return None


def is_complete(model: Model, folder: Path) -> bool:
    """Whether `folder` holds something for each of the model's patterns."""
    if not folder.is_dir():
        return False
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return all(fnmatch.filter(names, pattern) for pattern in model.files)


def own_folder(model: Model) -> Path:
    """Where plain files (those with a url) are kept."""
    import platformdirs

    return Path(platformdirs.user_cache_path("kiss3d-orchestrate")) / "models" / model.name


def _candidates(model: Model) -> list[Path]:
    folders = []
    if chosen := os.environ.get(FOLDER_VARIABLE):
        folders.append(Path(chosen) / model.name)
    if model.url:
        folders.append(own_folder(model))
    else:
        folders += _hub_snapshots(model)
    return folders


def _hub_snapshots(model: Model) -> list[Path]:
    """Snapshot folder of the revision in the hub's cache (layout: huggingface_hub docs)."""
    from huggingface_hub.constants import HF_HUB_CACHE

    root = Path(HF_HUB_CACHE) / ("models--" + model.repo.replace("/", "--"))
    reference = root / "refs" / model.revision
    commit = reference.read_text().strip() if reference.is_file() else model.revision
    return [root / "snapshots" / commit]
