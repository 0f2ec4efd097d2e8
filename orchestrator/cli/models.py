"""`models`: the weights. What there is, bring it here, check it, where it is, convert it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli import answers, tables
from orchestrator.system.terminal import say, say_json

if TYPE_CHECKING:
    from orchestrator.weights.verify import ModelCheck, Verdict
    from stages.weights.catalogue import Model


@click.group()
def models() -> None:
    """Look at the weights, download them, check them.

    They are looked for in $KISS3D_MODELS/NAME, then in the Hugging Face cache (HF_HOME), then in
    this program's own cache.
    """


_names = click.argument("names", nargs=-1, metavar="[NAME]...")
_profile = click.option("--profile", metavar="NAME", help="All that this profile needs.")
_fallbacks = click.option(
    "--fallbacks", is_flag=True, help="With --profile: the weights of its lower rungs too."
)
_json = click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")


@models.command("list")
@_profile
@_fallbacks
@_json
def list_models(profile: str | None, fallbacks: bool, as_json: bool) -> None:
    """What each model is, how large, and whether it is here.

    A star marks a gated one. The last lines add up what each profile needs on disk.
    """
    from orchestrator.weights import needs as weights_of

    with answers.errors_as_json(as_json):
        known = weights_of.catalogue()
        used = weights_of.profiles_by_model()
        chosen = weights_of.select((), profile, fallbacks) if profile else list(known.values())
        rows = [_row(model, used.get(model.name, ())) for model in chosen]
        totals = {
            name: round(weights_of.total_gb(weights_of.profile_needs(name), known), 2)
            for name in _profiles(profile)
        }
    if as_json:
        say_json({"models": rows, "profiles_gb": totals})
        return
    table = [
        (
            row["name"] + ("*" if row["gated"] else ""),
            row["state"],
            f"{row['size_gb']:.2f}",
            ", ".join(row["profiles"]) or "-",
            row["licence"],
            row["about"],
        )
        for row in rows
    ]
    tables.print_table(("model", "here", "GB", "needed by", "licence", "what it is"), table)
    for name, size in totals.items():
        say(f"profile {name}: {size:.2f} GB" if size else f"profile {name}: needs none")
    _warn_of_places()


def _profiles(only: str | None) -> list[str]:
    from orchestrator.pipeline.layers import profile_names

    return [only] if only else profile_names()


def _row(model: Model, profiles: tuple[str, ...]) -> dict[str, Any]:
    from stages.weights import catalogue

    folder = catalogue.locate(model.name)
    partial = catalogue.locate_part(model) is not None
    return {
        "name": model.name,
        "state": "yes" if folder else "in part" if partial else "no",
        "folder": str(folder) if folder else "",
        "size_gb": model.size_gb,
        "licence": model.licence,
        "gated": model.gated,
        "page": model.page,
        "revision": model.revision if model.repo else "",
        "files": list(model.files),
        "profiles": list(profiles),
        "about": model.about,
    }


@models.command()
@_names
@_profile
@_fallbacks
@click.option(
    "--workers",
    type=click.IntRange(1, 32),
    default=4,
    show_default=True,
    help="Files that are downloaded at the same time.",
)
@click.option("--repair", is_flag=True, help="Hash what is here, and replace what is damaged.")
@_json
def pull(
    names: tuple[str, ...],
    profile: str | None,
    fallbacks: bool,
    workers: int,
    repair: bool,
    as_json: bool,
) -> None:
    """Download models by name, or all of a profile.

    Stop it at any time: the same command goes on where it was. Sizes and hashes are verified.
    Exit code 1: something could not be downloaded.
    """
    from dataclasses import asdict

    from orchestrator.cli.pull_view import PullView
    from orchestrator.weights import needs as weights_of
    from orchestrator.weights import places
    from orchestrator.weights.pull import pull as bring

    with answers.errors_as_json(as_json):
        chosen = weights_of.select_some(names, profile, fallbacks)
        if not as_json and (fault := places.chosen_fault()):
            say(f"warning: {fault}", err=True)
        with PullView(quiet=as_json) as view:
            results = bring(chosen, view, workers, repair)
    if as_json:
        say_json([asdict(result) for result in results])
    elif not results:
        say(f"profile {profile} needs no weights", err=True)
    failed = [result.name for result in results if result.state == "failed"]
    if failed:
        if not as_json:
            say(f"not here: {', '.join(failed)}", err=True)
        raise SystemExit(1)


@models.command()
@_names
@_profile
@_json
def verify(names: tuple[str, ...], profile: str | None, as_json: bool) -> None:
    """Hash the files that are here, and say which are damaged.

    Without names: all that is here. Exit code 1: a file is damaged, or one that was asked for is
    missing. What cannot be verified, for want of a hash to compare with, is named and is no error.
    """
    from dataclasses import asdict

    from orchestrator.weights import needs as weights_of
    from orchestrator.weights import places
    from orchestrator.weights.verify import verify as check

    with answers.errors_as_json(as_json):
        asked = bool(names or profile)
        chosen = (
            weights_of.select(names, profile) if asked else list(weights_of.catalogue().values())
        )
        checked = [check(model) for model in chosen]
    if not asked:
        checked = [one for one in checked if one.folder is not None]
    if as_json:
        say_json([{**asdict(one), "verdict": one.verdict} for one in checked])
    elif checked:
        _tell(checked)
    elif asked:
        say(f"nothing to verify: profile {profile} needs no weights")
    else:
        say("nothing to verify: no weights are on this machine")
        for place in places.places():
            say(f"  looked in {place}", err=True)
        say("  -> kiss3d-orchestrate models pull --profile NAME", err=True)
    if not as_json:
        _warn_of_places()
    if any(one.verdict in _BAD for one in checked):
        raise SystemExit(1)


def _warn_of_places() -> None:
    from orchestrator.weights import places

    for fault in places.faults():
        say(f"warning: {fault}", err=True)


_BAD = ("damaged", "missing")


def _tell(checked: Sequence[ModelCheck]) -> None:
    """The table, what each verdict counts, and what to do."""
    tables.print_table(("model", "verdict", "files", "folder"), [_check_row(c) for c in checked])
    for one in checked:
        if one.why_unknown:
            say(f"{one.name} cannot be verified: {one.why_unknown}", err=True)
    counts = Counter(one.verdict for one in checked)
    told = [f"{counts[verdict]} {text}" for verdict, text in _VERDICTS.items() if counts[verdict]]
    say(", ".join(told), err=True)
    for verdict, option in (("damaged", " --repair"), ("missing", "")):
        if bad := [one.name for one in checked if one.verdict == verdict]:
            say(f"  -> kiss3d-orchestrate models pull{option} {' '.join(bad)}", err=True)


_VERDICTS: dict[Verdict, str] = {
    "ok": "as their publisher states",
    "damaged": "damaged",
    "missing": "not here, or not all of it",
    "unknown": "cannot be verified",
}


def _check_row(checked: ModelCheck) -> tuple[str, str, str, str]:
    told = []
    for verdict, files in checked.by_verdict().items():
        if verdict in _BAD:
            told.append(f"{verdict}: {', '.join(files)}")
        else:
            told.append(f"{len(files)} {'as stated' if verdict == 'ok' else 'without a hash'}")
    return checked.name, checked.verdict, "; ".join(told), str(checked.folder or "-")


@models.command()
@click.argument("name")
@_json
def path(name: str, as_json: bool) -> None:
    """Print the folder of model NAME, for scripts. Exit code 2: it is not here."""
    from orchestrator.weights import needs as weights_of
    from stages.weights import catalogue

    with answers.errors_as_json(as_json):
        [model] = weights_of.select([name])
        folder = catalogue.locate(name)
        if folder is None:
            missing = [weights_of.Missing(name, (), model)]
            raise weights_of.missing_error(missing, weights_of.what_is_there(missing))
    if as_json:
        say_json({"name": name, "folder": str(folder), "files": catalogue.files(model, folder)})
    else:
        say(folder)


@models.command()
def login() -> None:
    """Keep a Hugging Face token on this machine, for gated models.

    Asks for it, or reads it from stdin where that is no terminal. Make one of type "read" at
    https://huggingface.co/settings/tokens. A token in HF_TOKEN needs no login.
    """
    import os
    import sys

    from orchestrator.weights.hub import keep_token

    if sys.stdin is not None and sys.stdin.isatty():
        token = click.prompt("token", hide_input=True, err=True)
    else:
        token = "" if sys.stdin is None else sys.stdin.readline()
    say(f"logged in as {keep_token(token.strip())}")
    if os.environ.get("HF_TOKEN"):
        say("warning: HF_TOKEN is set, and is used instead of what was kept now", err=True)


@models.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME|FILE...")
@_json
def convert(names: tuple[str, ...], as_json: bool) -> None:
    """Make a .safetensors file of each other checkpoint.

    It is written beside the .ckpt, .bin, .pth or .pt files of a model, or beside a FILE of yours.
    Later loads map it instead of unpacking the other. A file that holds more than tensors is
    refused.
    """
    from orchestrator.weights.convert import convert_file, files_of

    rows = []
    with answers.errors_as_json(as_json):
        for file in [file for name in names for file in files_of(name)]:
            row = convert_file(file)
            rows.append(row)
            if not as_json:
                say(row["file"])
    if as_json:
        say_json(rows)
