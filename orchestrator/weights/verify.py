"""Hash the files that are here, and hold them to what their publisher states.

That comes from configs/models.yaml, from the listing that huggingface_hub keeps of a commit, or
from the name of the blob that a snapshot links to, which is its hash. A model that is not pinned to
a commit is held to what its first pull here recorded. No network is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from orchestrator.errors import DownloadError
from orchestrator.weights.download import file_digest
from stages.weights import catalogue
from stages.weights.catalogue import Model

Verdict = Literal["ok", "damaged", "missing", "unknown"]
_WORST_FIRST: tuple[Verdict, ...] = ("damaged", "missing", "unknown")
_SHA256, _GIT_SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class FileCheck:
    """One file. verdict "unknown": there is no stated hash to compare it with."""

    file: str
    verdict: Verdict
    expected: str = ""
    found: str = ""


@dataclass(frozen=True)
class ModelCheck:
    """All files of a model, in the folder where a stage would load them from."""

    name: str
    folder: Path | None
    files: tuple[FileCheck, ...]
    why_unknown: str = ""
    """Of files whose verdict is "unknown": why, and what could be done."""

    @property
    def verdict(self) -> Verdict:
        """The worst of its files'."""
        found = self.by_verdict()
        return next((verdict for verdict in _WORST_FIRST if verdict in found), "ok")

    def by_verdict(self) -> dict[Verdict, list[str]]:
        """Names of the files of each verdict that occurs."""
        found: dict[Verdict, list[str]] = {}
        for check in self.files:
            found.setdefault(check.verdict, []).append(check.file)
        return found


def verify(model: Model) -> ModelCheck:
    """Hash every file of a model; takes a second or so a gigabyte."""
    folder = catalogue.locate(model.name) or catalogue.locate_part(model)
    if folder is None:
        missing = tuple(FileCheck(pattern, "missing") for pattern in model.files)
        return ModelCheck(model.name, None, missing)
    listing = catalogue.hub_listing(folder) if model.repo else {}
    checks = [
        _check(folder / path, path, stated_hash(model, folder, path, listing))
        for path in catalogue.files(model, folder)
    ]
    checks += [FileCheck(path, "missing") for path in catalogue.missing_files(model, folder)]
    unknown = any(check.verdict == "unknown" for check in checks)
    why = _why_unknown(model, folder) if unknown else ""
    return ModelCheck(model.name, folder, tuple(checks), why)


def _why_unknown(model: Model, folder: Path) -> str:
    if _is_own(model, folder):
        return (
            f"{folder} is your own ({catalogue.FOLDER_VARIABLE}): nobody states what its files "
            "should be; compare them with their source yourself"
        )
    if model.url:
        return f"configs/models.yaml has no hash of it; compare it with {model.url} yourself"
    return (
        f"the cache does not hold the hub's listing of that commit; compare with {model.page} "
        f"yourself, or delete {folder} and pull {model.name} again"
    )


def _is_own(model: Model, folder: Path) -> bool:
    return folder in catalogue.candidates(model)[:-1]


def stated_hash(model: Model, folder: Path, path: str, listing: dict[str, dict[str, Any]]) -> str:
    """sha256:..., md5:... or git-sha1:... of a file as its publisher states it, or ""."""
    if _is_own(model, folder):
        return ""
    record = catalogue.pull_record(model)
    if record and folder.name == record.commit and path in record.hashes:
        return record.hashes[path]
    if model.pinned and path in model.hashes:
        return model.hashes[path]
    entry = listing.get(path, {})
    if entry.get("lfs_sha256"):
        return f"sha256:{entry['lfs_sha256']}"
    if entry.get("blob_id"):
        return f"git-sha1:{entry['blob_id']}"
    real = (folder / path).resolve()
    if real.parent.name == "blobs":
        if _SHA256.fullmatch(real.name):
            return f"sha256:{real.name}"
        if _GIT_SHA1.fullmatch(real.name):
            return f"git-sha1:{real.name}"
    return model.hashes.get(path, "")


def _check(file: Path, path: str, expected: str) -> FileCheck:
    if not file.is_file():
        return FileCheck(path, "missing", expected)
    if not expected:
        return FileCheck(path, "unknown")
    found = file_digest(file, expected.partition(":")[0])
    return FileCheck(path, "ok" if found == expected else "damaged", expected, found)


def require_small(model: Model, folder: Path, paths: Iterable[str]) -> None:
    """Hold the files that the hub's client fetched to what the hub states of them.

    A damaged one is removed. Raises `DownloadError`.
    """
    listing = catalogue.hub_listing(folder)
    for path in paths:
        check = _check(folder / path, path, stated_hash(model, folder, path, listing))
        if check.verdict == "missing":
            raise DownloadError(f"{model.name}/{path}: the hub's client did not bring it")
        if check.verdict == "damaged":
            _remove(folder / path)
            raise DownloadError(
                f"{model.name}/{path}: what came has another hash than the hub states "
                f"({check.expected}), and was deleted",
                "try again; if it stays so, a mirror or proxy changes it",
            )


def remove_damaged(model: Model) -> None:
    """Delete the files of a model that are damaged, so that they can be fetched again."""
    checked = verify(model)
    for path in checked.by_verdict().get("damaged", []):
        if checked.folder is not None:
            _remove(checked.folder / path)


def _remove(file: Path) -> None:
    """The link of a snapshot and the blob behind it; a file elsewhere that somebody has linked to
    is not ours."""
    real = file.resolve()
    storage = next((one for one in file.parents if one.name == "snapshots"), file).parent
    file.unlink(missing_ok=True)
    if real.parent == storage.resolve() / "blobs":
        real.unlink(missing_ok=True)
