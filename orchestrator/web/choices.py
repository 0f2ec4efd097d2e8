"""What a browser may choose, as the program's own options: names of profiles, numbers, yes and no,
and words of a list. No path and no free text of a stage's is among them: whoever fills in the page
is not whoever owns the machine.
"""

from __future__ import annotations

import contextlib
import functools
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from orchestrator.commands.subject import MAX_WORDS, MESH, PICTURE, TEXT
from orchestrator.errors import ConfigError, KissError, UnknownNameError
from orchestrator.pipeline import layers
from orchestrator.pipeline.graph import Graph
from orchestrator.planning.options import Options, Start
from orchestrator.planning.request import prepare

AUTO = "auto"
FORMATS = ("stl", "3mf", "ply", "usdz")
MOST_LINES = 40
MOST_CAPTION = 2000
"""Letters."""
MOST_TEXT = MAX_WORDS


@dataclass(frozen=True)
class Choices:
    """The form's fields, as they come. vram: GiB, 0: what is free; more: lines of settings."""

    profile: str = AUTO
    fast: bool = False
    seed: float | str | None = None
    vram: float = 0.0
    caption: str = ""
    background: str = "auto"
    formats: Sequence[str] = ()
    more: str = ""


BACKGROUNDS = {
    "find it (usual)": "auto",
    "keep it: the picture was cut out before": "keep",
    "it is white": "white",
    "it is black": "black",
}


@dataclass(frozen=True)
class Given:
    """What a mesh is to be made of: paths of uploads as a browser says them, and words."""

    start: str = "picture"
    picture: str | None = None
    back: str | None = None
    left: str | None = None
    right: str | None = None
    mesh: str | None = None
    text: str | None = ""

    @property
    def begins(self) -> Start:
        """`start`. Raises `UsageError` for a word that is none."""
        for known in STARTS:
            if self.start == known:
                return known
        raise UnknownNameError("beginning", self.start, STARTS)

    @property
    def words(self) -> str:
        """`text`; a field that was never touched holds None."""
        return (self.text or "").strip()

    @property
    def is_there(self) -> bool:
        """Whether there is enough to look at."""
        found = {"picture": self.picture, "mesh": self.mesh, "text": self.words}
        return bool(found[self.begins])


STARTS: Mapping[Start, str] = {"picture": "a picture", "text": "words", "mesh": "a mesh"}
_FIRST: Mapping[Start, str] = {"picture": PICTURE, "text": TEXT, "mesh": MESH}


def starts() -> list[tuple[str, str]]:
    """(what is shown, name) of what the profiles can begin with."""
    return [(told, start) for start, told in STARTS.items() if fitting(start)]


@functools.cache
def fitting(start: Start) -> tuple[str, ...]:
    """The profiles that begin with this."""
    found = []
    for name in layers.profile_names():
        with contextlib.suppress(KissError):
            profile = layers.load(name, from_mesh=start == "mesh").profile
            read = Graph.from_profile(profile).given
            needed = {artifact for artifact, is_needed in read.items() if is_needed}
            if _FIRST[start] in read and needed <= {_FIRST[start]}:
                found.append(name)
    return tuple(found)


def reads_words(start: str, profile: str) -> bool:
    """Whether words beside what a run begins with are of use to a profile; "auto": to the one that
    this machine would get. Raises `UsageError` where there is none."""
    begins = Given(start).begins
    if profile == AUTO:
        profile = prepare(Options(profile=AUTO, start=begins)).settings.name
    return profile in fitting(begins) and _reads_words(profile, begins == "mesh")


@functools.cache
def _reads_words(name: str, from_mesh: bool) -> bool:
    return TEXT in Graph.from_profile(layers.load(name, from_mesh=from_mesh).profile).given


def profiles(start: str) -> list[tuple[str, str]]:
    """(what is shown, name) of each profile that begins with this."""
    named = [(name, name) for name in fitting(Given(start).begins)]
    return [("automatic: the best that this machine can run", AUTO), *named]


def options_of(choices: Choices, start: Start = "picture") -> Options:
    """The same as the program takes it. Raises `UsageError`s in words for the page."""
    profile = choices.profile or AUTO
    if profile != AUTO and profile not in fitting(start):
        known = profile in layers.profile_names()
        begins = {"text": "words alone"}.get(start, f"a {start}")
        meant = f"{profile} does not begin with {begins}; these do: {', '.join(fitting(start))}"
        raise UnknownNameError("profile", profile, fitting(start), meant=meant if known else "")
    unknown = [name for name in choices.formats if name not in FORMATS]
    if unknown:
        raise UnknownNameError("format", unknown[0], FORMATS)
    seed = _whole("seed", choices.seed)
    vram = float(choices.vram or 0.0)
    if not 0.0 <= vram <= 1024.0:
        raise ConfigError(f"{vram:g} GiB is no size of a card", "0: what is free")
    caption = " ".join((choices.caption or "").split())
    if len(caption) > MOST_CAPTION:
        raise ConfigError(f"the description has more than {MOST_CAPTION} letters", "shorten it")
    if choices.background not in (*BACKGROUNDS.values(), None, ""):
        raise UnknownNameError("background", choices.background, BACKGROUNDS.values())
    background = None if choices.background in ("auto", "", None) else choices.background
    return Options(
        profile=profile,
        sets=tuple(_sets(choices.more or "", profile)),
        seed=seed,
        fast=bool(choices.fast),
        target_vram=vram,
        caption=caption or None,
        background=background,
        formats=tuple(choices.formats or ()),
    )


def _whole(name: str, value: float | str | None) -> int | None:
    text = "" if value is None else str(value).strip().removesuffix(".0")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ConfigError(f'{name} is "{text[:40]}"', "a whole number from 0 on, or empty")
    return int(text)


def _sets(text: str, profile: str) -> list[str]:
    """Lines `node.param = value` as `--set`s. Raises `ConfigError`, `UnknownNameError`."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and profile == AUTO:
        raise ConfigError("settings of stages need a profile", "choose one instead of automatic")
    if len(lines) > MOST_LINES:
        raise ConfigError(f"more than {MOST_LINES} settings", "leave some out")
    nodes = layers.load(profile).profile.nodes if lines else {}
    found = []
    for line in lines:
        path, equals, told = (part.strip() for part in line.partition("="))
        node, dot, param = path.partition(".")
        if not (equals and dot and told):
            raise ConfigError(f'"{line[:80]}" is no setting', "node.param = value, one a line")
        if node not in nodes:
            raise UnknownNameError("stage", node, nodes)
        fields = layers.node_stage(node, nodes[node]).Params.model_fields
        if param not in fields:
            raise UnknownNameError("setting", param, fields, f"stage {node}")
        if not _may_be(fields[param].annotation, told):
            raise ConfigError(
                f"{path} = {told[:80]} cannot be set here",
                "numbers, true and false, and words of a list can; the command line sets the rest",
            )
        found.append(f"{path}={told}")
    return found


def _may_be(hint: Any, told: str) -> bool:
    """Whether a text is a plain value of this type; the stage checks ranges itself."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_may_be(one, told) for one in typing.get_args(hint))
    if origin is typing.Annotated:
        return _may_be(typing.get_args(hint)[0], told)
    if origin is Literal:
        return told in [str(one) for one in typing.get_args(hint)]
    if hint is bool:
        return told in ("true", "false")
    if hint is type(None):
        return told == "null"
    if hint in (int, float):
        try:
            hint(told)
        except ValueError:
            return False
        return True
    return False
