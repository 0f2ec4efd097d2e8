"""Arguments of the package's functions that are of another type than they should be: `UsageError`s
in words."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.commands.subject import Subject, is_mesh, subject_of
from orchestrator.errors import UnknownNameError, UsageError
from orchestrator.planning.options import Options
from orchestrator.system.folders import settled

AnyPath = str | Path
SIDE_NAMES = ("back", "left", "right")
_MEANT = {
    "candidates": "`kiss3d.candidates(..., count=3)` tries seeds and keeps the best",
    "sets": 'settings={"node.param": value}',
    "set": 'settings={"node.param": value}',
    "format": 'formats=["stl"]',
}


def path_of(value: object, name: str) -> Path:
    """A path, absolute. Raises `UsageError` for what is none: bytes, a list, a number."""
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(path, str):
        kind = type(value).__name__
        raise UsageError(f"{name}: {kind} is no path", f'{name} is a text, "a.png", or a Path')
    if not path:
        raise UsageError(f"{name}: an empty path", "name a file or folder")
    return settled(Path(path).absolute())


def _words_or_none(text: object) -> str | None:
    """The words of `text=`. Raises `UsageError`."""
    if text is None or isinstance(text, str):
        return text
    raise UsageError(f"text: {type(text).__name__} is no text", 'text="a red vase"')


def require_known(more: Mapping[str, Any], function: Callable[..., Any]) -> None:
    """Refuse arguments that a function does not have. Raises `UnknownNameError`."""
    known = inspect.signature(function).parameters
    for name in more:
        if name not in known:
            raise UnknownNameError("option", name, known, meant=_MEANT.get(name, ""))


def require_listener(on_event: object) -> None:
    """Refuse what cannot be told of events. Raises `UsageError`."""
    if on_event is not None and not callable(on_event):
        raise UsageError(
            f"on_event: {on_event!r} cannot be called", "a function of one `RunEvent`, or None"
        )


def checked(values: Mapping[str, Any]) -> Options:
    """`Options` of values for its fields; "8" is a number. Raises `UsageError`."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Options).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        name, said = first["loc"][0], first["msg"].removeprefix("Input should be ")
        raise UsageError(
            f"{name}: {values[str(name)]!r} is not {said}", "`help(kiss3d.options)` has them all"
        ) from None


def given_subject(
    file: AnyPath | None,
    further: Sequence[AnyPath],
    views: str | None,
    text: str | None,
    mask: AnyPath | None,
    *sides: AnyPath | None,
) -> Subject:
    """What `run` and its like are given. sides: of `SIDE_NAMES`. Raises `UsageError`."""
    files = [path_of(one, "file") for one in ((file, *further) if file is not None else further)]
    if len(files) > 1 and views != "auto":
        raise UsageError(
            f"{len(files)} files: which sides of the object do the pictures show?",
            'back=, left= and right= say it, views="auto" finds it out; for pictures of several '
            "objects there is `kiss3d.batch`",
        )
    if views == "auto" and len(files) == 1 and not is_mesh(files[0]):
        raise UsageError(
            'views="auto" finds out what several pictures show: this is one',
            "give all pictures, the front first; or leave it out",
        )
    if views == "auto" and any(map(is_mesh, files)):
        raise UsageError('views="auto" is for pictures, not for meshes', "leave it out")
    given = [absolute(side, name) for side, name in zip(sides, SIDE_NAMES, strict=True)]
    words = _words_or_none(text)
    return subject_of(files, words, mask=absolute(mask, "mask"), sides=given)


def absolute(path: AnyPath | None, name: str) -> Path | None:
    return None if path is None else path_of(path, name)
