"""Where weights are looked for on this machine, and settings of it that lead nowhere."""

from __future__ import annotations

import os
from pathlib import Path

from orchestrator.errors import UsageError
from stages.weights import catalogue


def places() -> list[str]:
    """The places in their order, for people."""
    return [
        f"${catalogue.FOLDER_VARIABLE}: {catalogue.chosen_folder() or 'not set'}",
        f"the Hugging Face cache: {_hub_cache()}",
        str(catalogue.own_folders()),
    ]


def faults() -> list[str]:
    """A line for each setting that names no folder."""
    return [line for line in (chosen_fault(), _cache_fault()) if line]


def require_cache() -> None:
    """Raise `UsageError` where the hub's cache can be no folder."""
    if fault := _cache_fault():
        raise UsageError(fault, "set HF_HOME (or HF_HUB_CACHE) to a folder, or unset it")


def chosen_fault() -> str:
    """What is wrong with KISS3D_MODELS, as it was set and where that leads; "": nothing."""
    given, folder = os.environ.get(catalogue.FOLDER_VARIABLE), catalogue.chosen_folder()
    if folder is None or os.path.isdir(folder):
        return ""
    leads = "" if str(folder) == given else f" ({folder})"
    return f"{catalogue.FOLDER_VARIABLE}={given}{leads} is no folder"


def _hub_cache() -> Path:
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def _cache_fault() -> str:
    cache = _hub_cache()
    above = next((path for path in (cache, *cache.parents) if os.path.lexists(path)), cache)
    if above == cache and not os.path.lexists(cache):  # a drive that is not there
        return f"the Hugging Face cache {cache} cannot be made"
    if os.path.isdir(above):
        return ""
    where = "" if above == cache else f" cannot be there: {above}"
    return f"the Hugging Face cache {cache}{where} is no folder"
