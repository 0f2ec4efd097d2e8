"""What a request lacks: inputs that its profile begins with, and a card."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from orchestrator.errors import (
    ConfigError,
    UsageError,
)
from orchestrator.planning.auto_profile import BY_START
from orchestrator.planning.options import Start
from orchestrator.planning.request import Prepared


def require_inputs(prepared: Prepared, start: Start, given: Collection[str]) -> None:
    """Refuse what the profile cannot begin with, and what none of its nodes would look at.

    given: artifacts of `orchestrator.pipeline.graph.GIVEN`. Raises `ConfigError`.
    """
    name = prepared.settings.name
    read = prepared.whole.given
    lacking = next((one for one in read if read[one] and one not in given), None)
    if lacking is not None:
        raise ConfigError(
            f"profile {name} begins with {_BEGINNINGS[lacking]}, and {_STARTS[start]}",
            _other_profiles(start),
        )
    for artifact in given:
        if artifact not in read:
            raise ConfigError(_UNREAD[artifact].format(name=name), "leave it out")
    if "input_mask" in given and prepared.options.background is not None:
        raise ConfigError(
            "--mask and --background both say where the object is", "leave one of them out"
        )


_BEGINNINGS = {"input_image": "a picture", "input_text": "words", "input_mesh": "a mesh"}
_STARTS: Mapping[Start, str] = {
    "picture": "a picture was given",
    "text": "words alone were given, which need Flux to become a picture",
    "mesh": "a mesh was given",
}
_UNREAD = {
    "input_image": "profile {name} looks at no picture",
    "input_mask": "--mask: profile {name} cuts nothing out",
    "input_back": "--back: profile {name} takes one picture",
    "input_left": "--left: profile {name} takes one picture",
    "input_right": "--right: profile {name} takes one picture",
    "input_text": "--text: profile {name} has no use for words",
    "input_mesh": "profile {name} begins with no mesh",
}


def _other_profiles(start: Start) -> str:
    """Which shipped profiles begin with this."""
    fitting = " or ".join(f"--profile {name}" for name in BY_START[start])
    told = f"{fitting} {'do' if ' or ' in fitting else 'does'}"
    return f"{told}, on a card and with its weights" if start == "text" else told


def require_card(prepared: Prepared, will_run: Callable[[], Collection[str]]) -> None:
    """Refuse what cannot end well. Raises what `card_shortage` finds."""
    if shortage := card_shortage(prepared, will_run):
        raise shortage


_WITHOUT_A_CARD: Mapping[Start, str] = {
    "picture": "--profile sketch needs none; --device cpu computes on the CPU, in hours",
    "mesh": "--profile sketch needs none; --device cpu computes on the CPU, in hours",
    "text": "words alone need Flux, and Flux a card; of a picture --profile sketch makes a mesh "
    "without one",
}


def card_shortage(prepared: Prepared, will_run: Callable[[], Collection[str]]) -> UsageError | None:
    """What cannot end well: nodes that will run, need a card, and there is none."""
    if prepared.cards:
        return None
    stuck = [
        name
        for name, node in prepared.graph.nodes.items()
        if all(rung.device == "cuda" for rung in node.config.attempts)
    ]
    if stuck and (left := [name for name in stuck if name in will_run()]):
        why = prepared.monitor.why_not or "--device cpu"
        need = "needs" if len(left) == 1 else "need"
        return UsageError(
            f"{', '.join(left)} {need} a GPU, and none may be used ({why})",
            _WITHOUT_A_CARD[prepared.options.start],
        )
    return None
