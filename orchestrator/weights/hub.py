"""The Hugging Face hub: what a repository holds, and errors of it in words of this program.

huggingface_hub keeps its cache and its API; only the large files are fetched by
`orchestrator.weights.download`, into the place in that cache where huggingface_hub looks for them
(blobs/<sha256>).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.errors import DownloadError, KissError, UsageError
from orchestrator.system.atomic_files import write_json
from orchestrator.weights import hub_log, network
from orchestrator.weights.download import RemoteFile, transport_errors
from stages.contract.failures import is_disk_full
from stages.weights import catalogue
from stages.weights.catalogue import Model


@dataclass(frozen=True)
class Listing:
    """A model's files at one commit: the large ones to download, and the rest.

    commit   as the hub resolved the model's revision
    large    files in LFS, which have a sha256
    small    paths of the others, kept in git
    size     bytes of all of them
    hashes   file -> sha256:... of the large ones
    note     a warning, "": none
    """

    commit: str
    large: tuple[RemoteFile, ...]
    small: tuple[str, ...]
    size: int
    hashes: dict[str, str]
    note: str = ""


def list_files(model: Model) -> Listing:
    """What the hub has of a model, at the commit that an earlier pull recorded, if one did.

    Raises `DownloadError`.
    """
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.hf_api import RepoFile
    from huggingface_hub.utils import build_hf_headers

    record = catalogue.pull_record(model)
    if record:
        model = model.model_copy(update={"revision": record.commit})
    with explained(model):
        api = HfApi()
        revision = api.resolve_revision(model.repo, revision=model.revision)
        tree = api.list_repo_tree(model.repo, revision=revision.resolved, recursive=True)
        files = {item.path: item for item in tree if isinstance(item, RepoFile)}
        chosen = catalogue.wanted(model, files)
        _require_all(model, chosen)
        blobs = catalogue.hub_storage(model) / "blobs"
        headers = build_hf_headers()
        large = []
        hashes: dict[str, str] = {}
        for path in chosen:
            lfs = files[path].lfs
            if lfs is not None:
                url = hf_hub_url(model.repo, path, revision=revision.resolved)
                hashes[path] = f"sha256:{lfs.sha256}"
                target = blobs / lfs.sha256
                large.append(
                    RemoteFile(f"{model.name}/{path}", url, target, lfs.size, hashes[path], headers)
                )
        note = "" if record else _compared(model, hashes)
        if record and not record.hashes.items() <= hashes.items():
            raise _replaced(model, record.hashes, hashes, str(catalogue.record_file(model)))
        small = tuple(path for path in chosen if files[path].lfs is None)
        size = sum(files[path].size for path in chosen)
        return Listing(revision.resolved, tuple(large), small, size, hashes, note)


def _require_all(model: Model, paths: list[str]) -> None:
    empty = [pattern for pattern in model.files if not _names(model, pattern, paths)]
    if empty:
        raise DownloadError(
            f"{model.name}: {model.repo} has no {', '.join(empty)} at {model.revision}",
            f"configs/models.yaml is outdated: see {model.page}/tree/{model.revision}",
        )


def _names(model: Model, pattern: str, paths: list[str]) -> list[str]:
    return catalogue.wanted(model.model_copy(update={"files": (pattern,)}), paths)


def _compared(model: Model, stated: Mapping[str, str]) -> str:
    """A warning where the hub states another hash than the catalogue, for a model whose files may
    rightly have changed. Raises `DownloadError` for one that is pinned.
    """
    known = {path: value for path, value in model.hashes.items() if path in stated}
    other = {path: value for path, value in known.items() if stated[path] != value}
    if not other:
        return ""
    if model.pinned:
        raise _replaced(model, other, stated, "configs/models.yaml")
    told = [f"{path} is {stated[path]}, not {value}" for path, value in other.items()]
    return (
        f"{model.name}: another file than configs/models.yaml expects: {'; '.join(told)}. "
        f"{model.repo} may have a newer one; it is held to this one from now on"
    )


def _replaced(
    model: Model, known: Mapping[str, str], stated: Mapping[str, str], where: str
) -> DownloadError:
    told = [
        f"{path} ({stated.get(path, 'none')}) than {where} ({value})"
        for path, value in known.items()
        if stated.get(path) != value
    ]
    return DownloadError(
        f"{model.name}: the hub states another hash for {'; '.join(told)}",
        "the file was replaced, or a mirror serves another one (HF_ENDPOINT)",
    )


def record(model: Model, listing: Listing) -> None:
    """Hold this machine to what a pull has brought of a model that is not pinned."""
    if not model.pinned and catalogue.pull_record(model) is None:
        file = catalogue.record_file(model)
        file.parent.mkdir(parents=True, exist_ok=True)
        brought = catalogue.PullRecord(model.repo, listing.commit, listing.hashes)
        write_json(file, asdict(brought))


def check_access(model: Model, listing: Listing) -> None:
    """Ask for one file's head: a gate is met now, not after an hour. Raises `DownloadError`."""
    from huggingface_hub import get_hf_file_metadata

    with explained(model):
        for file in listing.large[:1]:
            get_hf_file_metadata(file.url)


def finish(model: Model, listing: Listing, workers: int) -> Path:
    """Fetch the small files, and link all of them into the snapshot; return its folder.

    The large ones lie in the cache by now. Raises `DownloadError`.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    with explained(model):
        return Path(
            snapshot_download(
                model.repo,
                revision=listing.commit,
                allow_patterns=list(model.files),
                max_workers=workers,
            )
        )


@contextlib.contextmanager
def explained(model: Model) -> Iterator[None]:
    """Turn what the client raises into a `DownloadError` that says what to do."""
    from huggingface_hub import errors

    try:
        yield
    except KissError:
        raise
    except errors.GatedRepoError as error:
        raise _gated(model) from error
    except errors.RevisionNotFoundError as error:
        raise DownloadError(
            f"{model.name}: {model.repo} has no revision {model.revision} (404)",
            f"{catalogue.record_file(model)} holds this machine to it: without that file the "
            "newest one is taken"
            if catalogue.record_file(model).is_file()
            else f"{model.page}/commits shows what it has",
        ) from error
    except errors.HfHubHTTPError as error:
        raise _status(model, error) from error
    except errors.OfflineModeIsEnabled as error:
        raise DownloadError(
            f"{model.name}: HF_HUB_OFFLINE is set", "unset it, or copy the files here by hand"
        ) from error
    except errors.RevisionResolutionError as error:
        raise _unreachable(model, error.__cause__ or error) from error
    except errors.LocalEntryNotFoundError as error:
        cause = error.__cause__
        if isinstance(cause, errors.HfHubHTTPError):
            raise _status(model, cause) from error
        raise _unreachable(model, cause or error) from error
    except transport_errors() as error:
        raise _unreachable(model, error) from error
    except OSError as error:
        setting = cache_setting(model)
        full = f"free space, or put the cache elsewhere: {setting}=<folder>; then the same command"
        where = f"{error.filename}: " if error.filename else ""
        raise DownloadError(
            f"{model.name}: {where}{error.strerror or error}", full if is_disk_full(error) else ""
        ) from error


def keep_token(token: str) -> str:
    """Have huggingface_hub keep a token, and return whose it is.

    Raises `UsageError` for what is no token, `DownloadError` where the hub cannot be asked.
    """
    from huggingface_hub import errors, login, whoami
    from huggingface_hub.constants import ENDPOINT

    network.require_client()
    hub_log.take_over()
    page = "https://huggingface.co/settings/tokens"
    if not token.isascii() or not token.isprintable() or not token:
        what = "that is no token" if token else "no token was given"
        raise UsageError(what, f"make one of type read at {page}")
    try:
        name = str(whoami(token)["name"])
        login(token)
    except errors.HfHubHTTPError as error:
        if error.response.status_code >= 500 or error.response.status_code == 429:
            raise DownloadError(
                f"{ENDPOINT} answers with status {error.response.status_code}", "try again later"
            ) from error
        raise UsageError(
            f"{ENDPOINT} does not accept this token ({error.response.status_code})",
            f"make one of type read at {page}",
        ) from error
    except transport_errors() as error:
        raise DownloadError(
            f"{ENDPOINT} cannot be reached ({str(error) or type(error).__name__})",
            "set HF_TOKEN instead: it is used without asking first",
        ) from error
    except (ValueError, OSError) as error:
        raise UsageError(f"the token cannot be kept: {error}", f"see {page}") from error
    return name


def _gated(model: Model) -> DownloadError:
    from huggingface_hub import get_token

    if get_token():
        return DownloadError(
            f"{model.name}: {model.repo} is gated, and your account has no access to it yet",
            f"open {model.page}, log in with the account of your token, and accept the licence",
        )
    return DownloadError(
        f"{model.name}: {model.repo} is gated: its licence has to be accepted first",
        f"open {model.page}, log in and accept; then `kiss3d-orchestrate models login` here, "
        "or set HF_TOKEN to a read token of https://huggingface.co/settings/tokens",
    )


def _status(model: Model, error: Exception) -> DownloadError:
    code = getattr(getattr(error, "response", None), "status_code", 0)
    source = model.repo or model.url
    if not model.repo and code in (404, 410):
        return DownloadError(
            f"{model.name}: {source} does not exist ({code})",
            f"configs/models.yaml is outdated; {_by_hand(model)}",
        )
    if not model.repo and code in (401, 403, 407):
        return DownloadError(
            f"{model.name}: {source} is refused ({code})",
            f"by its server, or by a proxy, for no token is needed there;{_through()} "
            f"{_by_hand(model)}",
        )
    if code == 404:
        return DownloadError(
            f"{model.name}: {source} does not exist (404)",
            f"is {model.page} there? It may have been renamed or made private",
        )
    if code == 401:
        return DownloadError(
            f"{model.name}: {source} is not there, or your token does not open it (401)",
            "`kiss3d-orchestrate models login`, or HF_TOKEN, sets another",
        )
    if code == 403:
        return DownloadError(
            f"{model.name}: access to {source} is refused (403)",
            f"does your token have the right to read it? Look at {model.page}",
        )
    reason = str(error).strip().partition("\n")[0]
    return DownloadError(f"{model.name}: {reason}", "try again later: it goes on where it was")


def _unreachable(model: Model, error: BaseException) -> DownloadError:
    """Of the place that this model comes from: the hub or its mirror, or the host of its URL."""
    from huggingface_hub.constants import ENDPOINT

    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        hint = "if a proxy here has certificates of its own: SSL_CERT_FILE=<file>"
    else:
        other = "a mirror: HF_ENDPOINT=<url>" if model.repo else _by_hand(model)
        hint = f"the same command goes on where it was;{_through()} {other}"
    return DownloadError(
        f"{model.name}: {ENDPOINT if model.repo else model.url} cannot be reached, or broke off "
        f"({reason})",
        hint,
    )


def _through() -> str:
    """The proxies that were asked, or how to name one."""
    found = network.proxies()
    return (
        f" it was asked for through {', '.join(found)};"
        if found
        else " behind a proxy: HTTPS_PROXY=http://host:port;"
    )


def _by_hand(model: Model) -> str:
    """How to do without the host of a model's URL."""
    return f"or fetch it by other means and put it in {catalogue.own_folder(model)}"


def cache_setting(model: Model) -> str:
    """The variable that moves the folder which the model is downloaded to."""
    return "HF_HOME" if model.repo else "XDG_CACHE_HOME"
