"""From a stage's name to its class: the ones shipped here and those that packages register.

A third-party package adds a stage with an entry point of the group `kiss3d.stages`:

    [project.entry-points."kiss3d.stages"]
    my_stage = "my_package.stage:MyStage"
"""

from __future__ import annotations

import importlib
from importlib.metadata import EntryPoint, entry_points

from stages.contract import Stage

GROUP = "kiss3d.stages"

BUILT_IN = {
    "preprocess": "stages.preprocess.stage:Preprocess",
    "inflate": "stages.multiview.inflate.stage:Inflate",
    "zero123plus": "stages.multiview.zero123plus.stage:Zero123PlusStage",
    "caption": "stages.caption.stage:Caption",
    "prompt": "stages.prompt.stage:Prompt",
    "encode": "stages.encode.stage:Encode",
    "flux": "stages.flux.stage:Flux",
    "hull.reference": "stages.lrm.hull.stage:HullReference",
    "hull.reconstruct": "stages.lrm.hull.stage:HullReconstruct",
    "prm.reference": "stages.lrm.prm.stage:PrmReference",
    "prm.reconstruct": "stages.lrm.prm.stage:PrmReconstruct",
    "isomer": "stages.isomer.stage:Isomer",
}


class UnknownStageError(LookupError):
    """No stage of this name is shipped or registered."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.known = known_stages()
        super().__init__(f'unknown stage "{name}"; known: {", ".join(self.known)}')


class BrokenStageError(ImportError):
    """A stage is registered, but its module cannot be imported or holds no such class."""


def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def known_stages() -> list[str]:
    """All names that `stage_class` knows, sorted."""
    return sorted({*BUILT_IN, *_registered()})


def stage_class(name: str) -> type[Stage]:
    """The class behind a stage name.

    Built-in names cannot be taken over by a package. Raises `UnknownStageError` or
    `BrokenStageError`.
    """
    if name in BUILT_IN:
        module_name, _, attribute = BUILT_IN[name].partition(":")
    else:
        point = _registered().get(name)
        if point is None:
            raise UnknownStageError(name)
        module_name, _, attribute = point.value.partition(":")
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # a package's module may raise anything when it is imported
        raise BrokenStageError(f'stage "{name}" ({module_name}:{attribute}): {error}') from error
    if not (isinstance(found, type) and issubclass(found, Stage)):
        raise BrokenStageError(f'stage "{name}": {module_name}:{attribute} is not a Stage')
    return found
