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
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from stages.contract import StageError

_HERE = Path(__file__).resolve().parents[1]
FOLDER_VARIABLE = "KISS3D_MODELS"
PICKLED = (".ckpt", ".bin", ".pth", ".pt")
"""Suffixes of checkpoints that `models convert` makes a .safetensors file of, beside them."""
_HASH = re.compile(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")


@dataclass(frozen=True)
class PullRecord:
    """What the first pull of a model that is not pinned brought; this machine is held to it.

    hashes  file -> sha256:..., of the large ones, as the hub stated them
    """

    repo: str
    commit: str
    hashes: dict[str, str]


class CatalogueError(ValueError):
    """configs/models.yaml cannot be read, or an entry of it is wrong."""


class Model(BaseModel):
    """One entry of the catalogue; configs/models.yaml explains the fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    about: str = ""
    repo: str = Field("", pattern=r"^([\w.-]+/[\w.-]+)?$")
    revision: str = "main"
    url: str = Field("", pattern=r"^(https?://.+)?$")
    files: tuple[str, ...] = Field(min_length=1)
    size_gb: float = Field(gt=0)
    licence: str = Field(min_length=1)
    gated: bool = False
    hashes: dict[str, str] = Field(default_factory=dict)
    sizes: dict[str, int] = Field(default_factory=dict)

    @property
    def pinned(self) -> bool:
        """Whether its files can never change: a plain file, or a commit of a repository."""
        return not self.repo or _COMMIT.fullmatch(self.revision) is not None

    @property
    def page(self) -> str:
        """Where people read about it, and accept its licence."""
        return f"https://huggingface.co/{self.repo}" if self.repo else self.url

    @property
    def size(self) -> int:
        """Bytes of its files, as precisely as `size_gb` says."""
        return round(self.size_gb * 1e9)

    @field_validator("files")
    @classmethod
    def _stay_inside(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in files:
            path = PurePosixPath(pattern)
            if not pattern or path.is_absolute() or ".." in path.parts or "\\" in pattern:
                raise ValueError(f'"{pattern}" does not lie inside of the repository')
        return files

    @field_validator("hashes")
    @classmethod
    def _known_hashes(cls, hashes: dict[str, str]) -> dict[str, str]:
        for file, value in hashes.items():
            if not _HASH.fullmatch(value):
                raise ValueError(f"{file}: expected sha256:<64 hex> or md5:<32 hex>")
        return hashes

    @model_validator(mode="after")
    def _one_source(self) -> Model:
        if bool(self.repo) == bool(self.url):
            raise ValueError("expected either repo or url")
        if self.url and (len(self.files) != 1 or set(self.files[0]) & set("*?[/")):
            raise ValueError("a url is one file, with a plain name")
        return self


def catalogue_file() -> Path:
    """Beside the package in a checkout, inside of it when installed."""
    checkout = _HERE.parent / "configs" / "models.yaml"
    return checkout if checkout.is_file() else _HERE.parent / "orchestrator/configs/models.yaml"


def catalogue() -> dict[str, Model]:
    """All entries by name. Raises `CatalogueError`."""
    return _parse(catalogue_file())


def shipped_yaml(path: Path) -> Any:
    """A table that comes with the program. libyaml, where PyYAML has it, takes a sixth of the time.

    Raises OSError or yaml.YAMLError.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 (both are safe)


@functools.cache
def _parse(path: Path) -> dict[str, Model]:
    import yaml

    try:
        data = shipped_yaml(path)
    except (OSError, yaml.YAMLError) as error:
        raise CatalogueError(f"{path}: {error}") from error
    if not isinstance(data, dict):
        raise CatalogueError(f"{path}: expected a mapping of names")
    return {str(name): _entry(path, str(name), fields) for name, fields in data.items()}


def _entry(path: Path, name: str, fields: Any) -> Model:
    if not isinstance(fields, dict):
        raise CatalogueError(f"{path}: {name}: expected a mapping")
    try:
        return Model.model_validate({**fields, "name": name})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([name, *map(str, first["loc"])])
        raise CatalogueError(f"{path}: {where}: {first['msg']}") from error


def find(name: str) -> Path:
    """The folder that holds a model's files, laid out as in its repository.

    name: of the catalogue, or the path of a folder or file that exists (one's own weights).
    Raises `StageError` of kind missing_weights.
    """
    found = locate(name)
    if found is not None:
        return found
    if name in catalogue():
        raise StageError(
            "missing_weights",
            f"the weights {name} are not on this machine",
            f"kiss3d-orchestrate models pull {name}",
        )
    raise StageError(
        "missing_weights",
        f'"{name}" is neither a file, nor a folder, nor a name in configs/models.yaml',
        "kiss3d-orchestrate models list",
    )


def find_file(name: str) -> Path:
    """The one file of a model that has only one (a checkpoint), or a path to such a file.

    Where only the .safetensors file is there that `models convert` made of it, that one.
    Raises `StageError` of kind missing_weights.
    """
    found = find(name)
    model = catalogue().get(name)
    if model is None:
        if not found.is_file():
            raise StageError("missing_weights", f"{found} is a folder", "name the file in it")
        return found
    file = found / model.files[0]
    return file if file.is_file() else file.with_suffix(".safetensors")


def locate(name: str) -> Path | None:
    """As `find`, but None where the files are missing or incomplete."""
    model = catalogue().get(name)
    if model is None:
        own = _own_path(name)
        return own if own.exists() else None
    return next((f for f in candidates(model) if not missing_files(model, f)), None)


def locate_part(model: Model) -> Path | None:
    """The first folder that holds at least one file of a model, complete or not."""
    for folder in candidates(model):
        if folder.is_dir() and files(model, folder):
            return folder
    return None


def candidates(model: Model) -> list[Path]:
    """The folders that are looked at for a model, in this order; none of them need exist."""
    folders = []
    if chosen := chosen_folder():
        folders.append(chosen / model.name)
    folders.append(own_folder(model) if model.url else hub_snapshot(model))
    return folders


def chosen_folder() -> Path | None:
    """What the user set KISS3D_MODELS to; it need not exist."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    return _own_path(chosen) if chosen else None


def _own_path(given: str) -> Path:
    return Path(os.path.expanduser(given))  # pathlib's own raises for a home that nobody has


def own_folder(model: Model) -> Path:
    """Where plain files (those with a url) are kept."""
    return own_folders() / model.name


def own_folders() -> Path:
    """Parent of all `own_folder`s; it need not exist."""
    import platformdirs

    return Path(platformdirs.user_cache_path("kiss3d-orchestrate")) / "models"


def hub_storage(model: Model) -> Path:
    """Folder of a repository in the hub's cache (layout: huggingface_hub's docs)."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE) / ("models--" + model.repo.replace("/", "--"))


def hub_snapshot(model: Model) -> Path:
    """Folder of the model's revision in the hub's cache; it need not exist.

    Of the commit that was recorded, if that is here.
    """
    storage = hub_storage(model)
    record = pull_record(model)
    if record and (held := storage / "snapshots" / record.commit).is_dir():
        return held
    reference = storage / "refs" / model.revision
    commit = reference.read_text().strip() if reference.is_file() else model.revision
    return storage / "snapshots" / commit


def record_file(model: Model) -> Path:
    """Where its `PullRecord` is kept."""
    return own_folder(model) / "pulled.json"


def pull_record(model: Model) -> PullRecord | None:
    """None for a model that is pinned, or was not pulled here yet."""
    if model.pinned:
        return None
    try:
        record = PullRecord(**json.loads(record_file(model).read_text(encoding="utf-8")))
        usable = record.repo == model.repo and _COMMIT.fullmatch(record.commit)
        return record if usable and isinstance(record.hashes, dict) else None
    except (OSError, ValueError, TypeError):
        return None


def hub_listing(snapshot: Path) -> dict[str, dict[str, Any]]:
    """What the hub states of each file of a commit, by path: size, blob_id, lfs_sha256.

    huggingface_hub keeps it beside the snapshots since version 2; {} where it does not.
    """
    file = snapshot.parent.parent / "trees" / f"{snapshot.name}.json"
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        return dict(data["files"]) if data["format_version"] == 1 else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def files(model: Model, folder: Path) -> list[str]:
    """Paths of a model's files in a folder, relative to it, sorted."""
    return wanted(model, _files_in(folder))


def wanted(model: Model, paths: Iterable[str]) -> list[str]:
    """Those of a repository's paths that the model's patterns name, sorted."""
    return sorted({path for path in paths for p in model.files if fnmatch.fnmatch(path, p)})


def missing_files(model: Model, folder: Path) -> list[str]:
    """What `folder` lacks of a model: patterns that nothing matches, shards, listed files.

    Empty: it is complete. An interrupted download of a sharded model is not.
    """
    if not folder.is_dir():
        return list(model.files)
    names = _files_in(folder)
    missing = [pattern for pattern in model.files if not _matched(pattern, names)]
    missing += _missing_shards(wanted(model, names), names)
    if model.repo and folder == hub_snapshot(model):
        listed = wanted(model, hub_listing(folder))
        missing += [path for path in listed if path not in missing and not _matched(path, names)]
    return missing


def _files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _matched(pattern: str, names: set[str]) -> bool:
    if fnmatch.filter(names, pattern):
        return True
    path = PurePosixPath(pattern)
    return path.suffix in PICKLED and str(path.with_suffix(".safetensors")) in names


def _missing_shards(paths: Iterable[str], names: set[str]) -> list[str]:
    """The rest of each set model-00001-of-00003.safetensors, ..., and its index."""
    needed = set()
    for path in paths:
        if shard := _SHARD.fullmatch(path):
            stem, suffix, count = shard["stem"], shard["suffix"], shard["count"]
            needed |= {f"{stem}-{n:05}-of-{count}{suffix}" for n in range(1, int(count) + 1)}
            needed.add(f"{stem}{suffix}.index.json")
    return sorted(needed - names)
