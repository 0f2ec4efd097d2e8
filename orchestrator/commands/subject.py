"""What one run is to be made of, as the user named it: nothing has been read yet."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.commands.mesh_files import meshes_in
from orchestrator.errors import UsageError
from orchestrator.planning.options import Start, start_of
from orchestrator.system.text import slug
from stages.contract.filetypes import HEAD, identify
from stages.contract.mesh_files import ZIP_KINDS

PICTURE = "input_image"
MASK = "input_mask"
TEXT = "input_text"
MESH = "input_mesh"
SIDES = ("input_back", "input_left", "input_right")
MESH_SUFFIXES = frozenset(ZIP_KINDS)
MAX_WORDS = 4000
"""Characters of the user's words. T5 reads 512 tokens, which are some 2000 letters."""


@dataclass(frozen=True)
class Subject:
    """What one run is to be made of.

    files  artifact -> file. The first is what the run is called after
    text   the user's own words for the object, or ""
    seed   of this run alone; None: the request's
    """

    files: Mapping[str, Path] = field(default_factory=dict)
    text: str = ""
    seed: int | None = None

    @property
    def start(self) -> Start:
        """What the run begins with."""
        return start_of(self.files)

    @property
    def source(self) -> Path | None:
        """The file that the run is called after; None for words."""
        return next(iter(self.files.values()), None)

    @property
    def title(self) -> str:
        """What to call it, for people."""
        return f'"{self.text}"' if self.source is None else str(self.source)

    @property
    def name(self) -> str:
        """A name for its directory."""
        return slug(self.text[:48] if self.source is None else self.source.stem)

    @property
    def artifacts(self) -> list[str]:
        """Names of what is given."""
        return [*self.files, *([TEXT] if self.text else [])]


def subject_of(
    files: Sequence[Path],
    text: str | None = None,
    *,
    mask: Path | None = None,
    sides: Sequence[Path | None] = (),
    seed: int | None = None,
) -> Subject:
    """What a command line, a line of a table or a call names.

    files: a picture or a mesh, or nothing where `text` is all; further ones stand for the back, the
    left and the right of the object, in this order. sides: the same, each where it was named so.
    Raises `UsageError`.
    """
    words = None if text is None else words_of(text)
    given = [*files[1:], *([None] * (len(SIDES) - len(files[1:])))]
    if len(given) > len(SIDES):
        raise UsageError(
            f"{len(files)} pictures of one object", "front, back, left and right are all: at most 4"
        )
    found = dict(zip(SIDES, given, strict=True))
    for name, path in zip(SIDES, sides, strict=False):
        if path is not None and found[name] is not None:
            raise UsageError(f"two pictures of the object's {name[6:]}", "leave one of them out")
        found[name] = path or found[name]
    more = {name: path for name, path in found.items() if path is not None}
    if not files:
        if words is None:
            raise UsageError("nothing to make a mesh of", "give a picture, a mesh, or --text")
        if mask is not None or more:
            raise UsageError(
                "a mask or a picture of a side needs one of the front", "give it first"
            )
        return Subject({}, words, seed)
    first = files[0]
    if is_mesh(first):
        if mask is not None or more:
            raise UsageError(f"{first} is a mesh: it has all sides and no mask", "leave them out")
        return Subject({MESH: first}, words or "", seed)
    masked = {} if mask is None else {MASK: mask}
    return Subject({PICTURE: first, **masked, **more}, words or "", seed)


def require_sides_said(
    files: Sequence[Path], views: str, sides: Sequence[Path | None] = ()
) -> None:
    """Refuse several pictures of which nobody says what they show, or which are told twice. Raises
    `UsageError`.

    views: "auto" where that is to be found out. sides: back, left, right, where they were named.
    """
    if views == "auto" and any(path is not None for path in sides):
        named = [f"--{name[6:]}" for name, path in zip(SIDES, sides, strict=False) if path]
        raise UsageError(
            f"--views auto finds the sides out: name none (here {' and '.join(named)})",
            "give all pictures as FILEs, the front first; or leave --views auto out and name each",
        )
    if len(files) > 1 and views != "auto":
        raise UsageError(
            f"{len(files)} files: which sides of the object do the pictures show?",
            "--back FILE, --left FILE and --right FILE say it, --views auto finds it out; for "
            "pictures of several objects there is `kiss3d-orchestrate batch`",
        )
    if views == "auto" and len(files) == 1 and not is_mesh(files[0]):
        raise UsageError(
            "--views auto finds out what several pictures show: this is one",
            "give all pictures as FILEs, the front first; or leave --views auto out",
        )
    if views == "auto" and any(is_mesh(path) for path in files):
        raise UsageError("--views auto is for pictures, not for meshes", "leave it out")


def words_of(text: str) -> str:
    """The user's words on one line. Raises `UsageError` for none, too many, or broken ones."""
    words = " ".join(text.split())
    if not words:
        raise UsageError("the text is empty", "say what the object is")
    if len(words) > MAX_WORDS:
        raise UsageError(f"a text of {len(words)} characters, more than {MAX_WORDS}", "shorten it")
    try:
        words.encode()
    except UnicodeEncodeError:
        raise UsageError("the text is no valid UTF-8", "check the terminal's encoding") from None
    return words


def is_mesh(path: Path) -> bool:
    """Whether a file is taken for a mesh: by its content, of a zip archive too, or else by its
    name."""
    found = None
    with contextlib.suppress(OSError):  # whoever reads it says why it cannot be read
        if path.is_file():  # a pipe would be waited for
            with path.open("rb") as stream:
                found = identify(stream.read(HEAD), path.stat().st_size)
    if found is None:
        return path.suffix.lower() in MESH_SUFFIXES
    return found.mesh or (found.name == "archive" and bool(meshes_in(path)))
