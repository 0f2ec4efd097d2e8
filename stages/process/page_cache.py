"""Bring a stage's weights into the page cache while its process waits for the card.

Nothing is kept by the process itself: the pages are the system's, which drops them when memory is
needed elsewhere.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stages.contract.registry import stage_class
from stages.weights import catalogue

_PIECE = 64 << 20
"""Bytes a request: small enough to stop soon, large enough for the disk."""

log = logging.getLogger("stages.process.page_cache")


def weight_files(stage: str, params: Mapping[str, Any]) -> list[Path]:
    """The files that a stage with these params will load; what is missing is left out."""
    cls = stage_class(stage)
    found: list[Path] = []
    for name in cls.weights(cls.Params.model_validate(dict(params))):
        place = catalogue.locate(name)
        if place is None:
            continue
        model = catalogue.catalogue().get(name)
        if place.is_file():
            found.append(place)
        elif model is not None:
            found += [place / file for file in catalogue.files(model, place)]
    return found


class CacheWarmer(threading.Thread):
    """Reads files, in order, until `limit` bytes; `stop` ends it within one piece."""

    def __init__(self, files: Iterable[Path], limit: int) -> None:
        super().__init__(name="readahead", daemon=True)
        self._files = list(files)
        self._left = limit
        self._stopping = threading.Event()
        self.done = 0

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        for path in self._files:
            with contextlib.suppress(OSError):  # load() will meet the error and tell it
                self._read(path)
        log.info("read %d bytes of weights ahead", self.done)

    def _read(self, path: Path) -> None:
        with path.open("rb", buffering=0) as stream:
            size = os.fstat(stream.fileno()).st_size
            for offset in range(0, size, _PIECE):
                length = min(_PIECE, size - offset, self._left)
                if length <= 0 or self._stopping.is_set():
                    return
                _fetch(stream.fileno(), offset, length)
                self._left -= length
                self.done += length


def _fetch(file: int, offset: int, length: int) -> None:
    """Have the system read a range; where it cannot be asked to, read it and throw it away."""
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(file, offset, length, os.POSIX_FADV_WILLNEED)
        return
    os.lseek(file, offset, os.SEEK_SET)
    left = length
    while left > 0 and (piece := os.read(file, min(left, 4 << 20))):
        left -= len(piece)
