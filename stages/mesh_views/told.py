"""What the reader of a mesh has to say to people, each sentence once."""

from __future__ import annotations

from collections.abc import Callable

from stages.contract import BadInput
from stages.mesh_views.given import Files


class Told:
    """warn: `Context.warn`."""

    def __init__(self, warn: Callable[..., None]) -> None:
        self._warn = warn
        self._said: set[str] = set()

    def once(self, text: str, degraded: bool = False) -> None:
        """degraded: the result is worse than it should be."""
        text = spelled(text)
        if text not in self._said:
            self._said.add(text)
            self._warn(text, degraded=degraded)

    def file(self, beside: Files, name: str, below: str = "") -> bytes:
        """A file that the mesh names, b"" with a word about it where it did not come along."""
        found = beside.find(name, below)
        if found is None:
            self.once(
                f"{name[:200]}, which the mesh names, is not beside it: its colours are missing",
                degraded=True,
            )
        return found or b""

    def needed(self, beside: Files, name: str) -> bytes:
        """As `file`, of one without which there is no mesh. Raises BadInput."""
        found = beside.find(name)
        if found is None:
            raise BadInput(
                f"{spelled(name[:200])}, which the mesh names, is not beside it",
                "Put it into the mesh's folder, or save the mesh as .glb, which has all in it.",
            )
        return found


def spelled(text: str) -> str:
    """Text in Unicode: half a surrogate pair, which JSON may hold, is spelled out."""
    return text.encode(errors="backslashreplace").decode()
