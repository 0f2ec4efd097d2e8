"""Options that several commands share."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from orchestrator.system.folders import settled

if TYPE_CHECKING:
    from orchestrator.commands.subject import Subject
    from orchestrator.planning.options import Options

_F = TypeVar("_F", bound=Callable[..., Any])
MOST_SEED = 2**63 - 1
"""Of a profile's own."""


class Finite(click.FloatRange):
    """A number in a range; `nan` and `inf`, which pass click's own comparison, are none."""

    name = "number"  # what it is called when a value is none: "8GB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number to work with.", param, ctx)
        return number


class Seed(click.IntRange):
    """What the random numbers of a run begin with."""

    def __init__(self) -> None:
        super().__init__(0, MOST_SEED)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            if str(value).strip().isdecimal():
                self.fail(f"{value} is too large for a seed: at most {MOST_SEED}.", param, ctx)
            self.fail(
                f"{value} is no seed: that is a whole number from 0 on, such as 42. The same seed "
                "gives the same result again, another one a variant.",
                param,
                ctx,
            )


class NamedPath(click.Path):
    """A file or directory; an empty text, which a path takes for the current one, is none."""

    def __init__(self) -> None:
        super().__init__(path_type=Path, readable=False)  # who reads it says more of it

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value):
            self.fail("it is empty: a variable of the shell may have no value.", param, ctx)
        return settled(Path(os.fsdecode(super().convert(value, param, ctx))))


class InputPath(NamedPath):
    """One to read; an address of the web, which a path would garble, is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if re.match(r"[a-z][a-z0-9+.-]+://", str(value), re.IGNORECASE):
            self.fail(f"{value} is an address: download it, and give the file.", param, ctx)
        return super().convert(value, param, ctx)


def read_formats(_: click.Context, __: click.Parameter, value: str | None) -> Any:
    """Names of formats of mesh files, as in "stl,3mf": the callback of an option."""
    from stages.contract.mesh_formats import parse_formats

    return _understood(parse_formats, value)


def read_length(_: click.Context, __: click.Parameter, value: str | None) -> Any:
    """A length with its unit, as in "100mm", in metres: the callback of an option."""
    from stages.contract.mesh_formats import parse_length

    return _understood(parse_length, value)


def _understood(parse: Callable[[str], Any], value: str | None) -> Any:
    try:
        return None if value is None else parse(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


def output_option(metavar: str, text: str) -> Callable[[_F], _F]:
    """--output, -o."""
    return click.option("--output", "-o", type=NamedPath(), metavar=metavar, help=text)


def _profile_names(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    from orchestrator.pipeline.layers import profile_names

    return [name for name in ("auto", *profile_names()) if name.startswith(begun)]


def settings_options(function: _F) -> _F:
    """--profile, --fast, --config, --seed, --caption, --background, --allow-tf32 and --set."""
    for option in (
        click.option(
            "--set",
            "sets",
            multiple=True,
            metavar="NODE.PARAM=VALUE",
            help="Change one value; may be given several times.",
        ),
        click.option(
            "--caption",
            metavar="TEXT",
            help="What the picture shows, in your words; no caption model is needed then.",
        ),
        click.option(
            "--background",
            metavar="HOW|COLOUR",
            help="How the object is cut out: auto, alpha, rembg, network, grabcut; keep: not at "
            "all. Or the colour of the background that is to go: white, black, '#rrggbb'.",
        ),
        click.option(
            "--seed",
            type=Seed(),
            help="The same number gives the same result again, another one a variant. Default: the "
            "profile's (42).",
        ),
        click.option(
            "--config",
            "config_file",
            type=NamedPath(),
            metavar="FILE",
            help="YAML file on top of the profile.",
        ),
        click.option(
            "--allow-tf32", is_flag=True, help="Cards may round float32 products to 10 bits."
        ),
        click.option("--fast", is_flag=True, help="The profile's faster settings."),
        click.option(
            "--profile",
            metavar="NAME",
            help="Default: auto (by hardware and weights present).",
            shell_complete=_profile_names,
        ),
    ):
        function = option(function)
    return function


def subject_options(function: _F) -> _F:
    """The argument FILE..., and --text, --mask, --back, --left, --right and --views."""
    for side in ("right", "left", "back"):
        function = click.option(
            f"--{side}",
            type=InputPath(),
            metavar="FILE",
            help=f"A picture of the object's {side}, of which FILE shows the front.",
        )(function)
    function = click.option(
        "--views",
        type=click.Choice(["named", "auto"]),
        default=None,
        help="auto: find out which sides of the object the second to fourth FILE show.",
    )(function)
    function = click.option(
        "--mask",
        type=InputPath(),
        metavar="FILE",
        help="Your own mask of FILE, of the same shape: white, or opaque, is the object.",
    )(function)
    function = click.option(
        "--text", metavar="WORDS", help="The object in your own words, in place of FILE or with it."
    )(function)
    return click.argument("files", type=InputPath(), metavar="[FILE]...", nargs=-1)(function)


def take_subject(request: dict[str, Any]) -> Subject:
    """What `subject_options` gave, taken out of a command's parameters. Raises `UsageError`."""
    from orchestrator.commands.subject import require_sides_said, subject_of

    sides = tuple(request.pop(side) for side in ("back", "left", "right"))
    files, text, mask = (request.pop(name) for name in ("files", "text", "mask"))
    require_sides_said(files, request["views"] or "named", sides)
    subject = subject_of(files, text, mask=mask, sides=sides)
    request["start"] = subject.start
    return subject


def format_option(function: _F) -> _F:
    """--format."""
    return click.option(
        "--format",
        "formats",
        callback=read_formats,
        metavar="stl,3mf,...",
        help="More mesh files in each result: ply, stl and 3mf (100 mm high), usdz.",
    )(function)


def report_option(function: _F) -> _F:
    """--report and --no-report."""
    return click.option(
        "--report/--no-report", default=True, help="A page for the browser in each result, or not."
    )(function)


def keep_option(default: str | None, shown: str) -> Callable[[_F], _F]:
    """--keep."""
    return click.option(
        "--keep",
        type=click.Choice(["all", "result", "mesh"]),
        default=default,
        help="What stays of a run that is done. result: no files that its stages made on the way; "
        f"mesh: of the result's mesh files mesh.glb alone. Default: {shown}.",
    )


def device_option(function: _F) -> _F:
    """--device."""
    return click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="auto|cpu|cuda:N",
        help="Which GPU may be used.",
    )(function)


def device_options(function: _F) -> _F:
    """--device and --no-warm."""
    cold = click.option("--no-warm", is_flag=True, help="Start every process cold.")
    return cold(device_option(function))


def budget_options(function: _F) -> _F:
    """--target-vram and --host-ram."""
    for option in (
        click.option(
            "--host-ram",
            type=Finite(min=0, min_open=True),
            default=None,
            metavar="GiB",
            help="Host memory that weights may fill. Default: what is available, less 4.",
        ),
        click.option(
            "--target-vram",
            type=Finite(min=0, min_open=True, max=1024),  # no card has more: that would be MiB
            default=None,
            metavar="GiB",
            help="What a process may take of the card. Default: what is free, less 0.5.",
        ),
    ):
        function = option(function)
    return function


def range_options(function: _F) -> _F:
    """--until and --from."""
    for option in (
        click.option(
            "--from",
            "from_node",
            metavar="NODE",
            help="Compute this node and all after it again; what is before must exist.",
        ),
        click.option("--until", metavar="NODE", help="Stop after this node."),
    ):
        function = option(function)
    return function


def view_options(function: _F) -> _F:
    """--json and -v."""
    for option in (
        click.option("-v", "--verbose", is_flag=True, help="The plan first, and every process."),
        click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout."),
    ):
        function = option(function)
    return function


def options_from(**request: Any) -> Options:
    """The options of a command line: the parameters that click gave, None where nothing was."""
    from orchestrator.planning.options import Options

    return Options(**{name: value for name, value in request.items() if value is not None})
