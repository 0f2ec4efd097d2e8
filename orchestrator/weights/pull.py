"""Bring models here: look what is needed, check the disk, fetch several files at once, verify.

    look up (a thread a model) -> disk space -> large files (a pool) -> small files and links

A model that fails does not stop the others.
"""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from orchestrator.errors import DownloadError, KissError, OutputError, UsageError
from orchestrator.weights import hub, hub_log, network, places, verify
from orchestrator.weights.download import Meter, RemoteFile, download
from orchestrator.weights.hub import Listing
from stages.weights import catalogue
from stages.weights.catalogue import Model

MARGIN = 1 << 30
"""Bytes that stay free on the disk: a full one breaks other programs as well."""

State = Literal["here", "pulled", "failed"]


class PullObserver(Protocol):
    """What the screen is told. Called from several threads."""

    def plan(self, size: int) -> None: ...

    def meter(self, label: str) -> Meter: ...

    def trying_again(self, text: str) -> None: ...

    def file_done(self, file: RemoteFile) -> None: ...

    def model_done(self, result: Result) -> None: ...


@dataclass(frozen=True)
class Result:
    """How it went with one model. folder: where it is; error, hint: why not; note: a warning."""

    name: str
    state: State
    folder: Path | None = None
    error: str = ""
    hint: str = ""
    note: str = ""


@dataclass(frozen=True)
class _Order:
    """A model to fetch. listing: None for one with a url."""

    model: Model
    files: tuple[RemoteFile, ...]
    small_size: int
    listing: Listing | None

    def missing(self) -> int:
        return self.small_size + sum(
            max(0, (file.size or self.model.size) - file.present()) for file in self.files
        )

    @property
    def place(self) -> Path:
        """A folder on the disk that it goes to."""
        return self.files[0].target.parent if self.files else catalogue.hub_storage(self.model)


def pull(
    models: Sequence[Model], view: PullObserver, workers: int, repair: bool = False
) -> list[Result]:
    """Fetch what is not here. Raises `UsageError` before anything is downloaded.

    repair: hash what is here first, and fetch again what is damaged.
    """
    if repair:
        for model in models:
            verify.remove_damaged(model)
    results: dict[str, Result] = {}
    absent = []
    for model in models:
        folder = catalogue.locate(model.name)
        if folder is None:
            absent.append(model)
        else:
            _end(results, view, Result(model.name, "here", folder))
    if absent:
        _refuse_offline(absent)
        if any(model.repo for model in absent):
            places.require_cache()
        network.require_client()
        hub_log.take_over(view.trying_again)
        orders = _look_up(absent, results, view, workers)
        _require_space(orders)
        if orders:
            view.plan(sum(order.missing() for order in orders))
        _fetch_all(orders, results, view, workers)
    return [results[model.name] for model in models]


def _end(results: dict[str, Result], view: PullObserver, result: Result) -> None:
    results[result.name] = result
    view.model_done(result)


def _failed(name: str, error: KissError) -> Result:
    return Result(name, "failed", None, error.message, error.hint)


def _refuse_offline(models: Iterable[Model]) -> None:
    from huggingface_hub.constants import is_offline_mode

    if is_offline_mode():
        raise UsageError(
            f"HF_HUB_OFFLINE is set, and not here: {', '.join(model.name for model in models)}",
            "unset it, or bring the files here by hand: docs/models.md, Machines without a network",
        )


def _look_up(
    models: Sequence[Model], results: dict[str, Result], view: PullObserver, workers: int
) -> list[_Order]:
    orders = []
    with ThreadPoolExecutor(workers, "look-up") as pool:
        lookups = [functools.partial(_order, model) for model in models]
        futures = [pool.submit(network.with_client, look_up) for look_up in lookups]
        for model, future in zip(models, futures, strict=True):
            try:
                orders.append(future.result())
            except KissError as error:
                _end(results, view, _failed(model.name, error))
    return orders


def _order(model: Model) -> _Order:
    if model.url:
        name = model.files[0]
        target = catalogue.own_folder(model) / name
        size, digest = model.sizes.get(name), model.hashes.get(name, "")
        file = RemoteFile(model.name, model.url, target, size, digest)
        return _Order(model, (file,), 0, None)
    listing = hub.list_files(model)
    if model.gated:
        hub.check_access(model, listing)
    large = sum(file.size or 0 for file in listing.large)
    return _Order(model, listing.large, listing.size - large, listing)


def _require_space(orders: Sequence[_Order]) -> None:
    """Raise `OutputError` for a disk that cannot hold what would be written to it."""
    by_disk: dict[int, list[_Order]] = {}
    for order in orders:
        by_disk.setdefault(_existing(order.place).stat().st_dev, []).append(order)
    for together in by_disk.values():
        folder = _existing(together[0].place)
        size = sum(order.missing() for order in together)
        free = shutil.disk_usage(folder).free
        if size and size + MARGIN > free:
            settings = sorted({f"{hub.cache_setting(one.model)}=<folder>" for one in together})
            raise OutputError(
                f"{size / 1e9:.1f} GB are to be downloaded to {folder}, which has "
                f"{free / 1e9:.1f} GB free",
                f"free space, or put them on another disk: {' '.join(settings)}",
            )


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _fetch_all(
    orders: Sequence[_Order], results: dict[str, Result], view: PullObserver, workers: int
) -> None:
    stop = threading.Event()
    with ThreadPoolExecutor(workers, "download") as pool:
        pending = {order.model.name: len(order.files) for order in orders}
        owner: dict[Future[None], _Order] = {
            pool.submit(_fetch, order.model, file, view, stop): order
            for order in orders
            for file in order.files
        }
        try:
            for order in orders:
                if not order.files:
                    _end(results, view, _finish(order, workers))
            for future in as_completed(owner):
                order = owner[future]
                name = order.model.name
                pending[name] -= 1
                try:
                    future.result()
                except KissError as error:
                    if name not in results:
                        _end(results, view, _failed(name, error))
                if pending[name] == 0 and name not in results:
                    _end(results, view, _finish(order, workers))
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(model: Model, file: RemoteFile, view: PullObserver, stop: threading.Event) -> None:
    with hub.explained(model):
        download(file, view.meter(file.label), stop)
        view.file_done(file)


def _finish(order: _Order, workers: int) -> Result:
    """Link the files into a snapshot, and see that all is there as stated."""
    model, note = order.model, ""
    try:
        folder = catalogue.own_folder(model)
        if order.listing is not None:
            note = order.listing.note
            folder = network.with_client(
                functools.partial(hub.finish, model, order.listing, workers)
            )
            verify.require_small(model, folder, order.listing.small)
        missing = catalogue.missing_files(model, folder)
        if missing:
            raise DownloadError(f"{model.name}: {folder} still lacks {', '.join(missing)}")
        if order.listing is not None:
            hub.record(model, order.listing)
    except KissError as error:
        return _failed(model.name, error)
    return Result(model.name, "pulled", folder, note=note)
