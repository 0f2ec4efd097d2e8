"""From a stage's name to its class: the ones shipped here and those that packages register.

A third-party package adds a stage with an entry point of the group `kiss3d.stages`:

    [project.entry-points."kiss3d.stages"]
    my_stage = "my_package.stage:MyStage"
"""

from __future__ import annotations

import functools
import importlib
import sys
from importlib.metadata import EntryPoint, entry_points

from stages.contract.stage import ArtifactSpec, Params, Stage

GROUP = "kiss3d.stages"

BUILT_IN = {
    "preprocess": "stages.preprocess.stage:Preprocess",
    "mesh_views": "stages.mesh_views.stage:MeshViews",
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
    "retexture": "stages.isomer.retexture:Retexture",
}


class UnknownStageError(LookupError):
    """No stage of this name is shipped or registered."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.known = known_stages()
        super().__init__(f'unknown stage "{name}"; known: {", ".join(self.known)}')


class BrokenStageError(ImportError):
    """A stage is registered, but its module cannot be imported, or holds no such class or one that
    does not keep the contract."""


def _registered() -> dict[str, EntryPoint]:
    return _registered_on(tuple(sys.path))


@functools.cache
def _registered_on(_path: tuple[str, ...]) -> dict[str, EntryPoint]:
    # Reads the metadata of every installed package, 10 ms each time; a plan asks fifty times.
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
    if flaw := _flaw(found):
        raise BrokenStageError(f'stage "{name}": {module_name}:{attribute} {flaw}')
    return found


def _flaw(stage: type[Stage]) -> str:
    """What a class lacks of the contract that the parent reads, or ""."""
    for what in ("name", "summary"):
        if not isinstance(getattr(stage, what, None), str):
            return f"says no {what}"
    for what in ("inputs", "outputs"):
        specs = getattr(stage, what, None)
        if not isinstance(specs, tuple) or not all(isinstance(s, ArtifactSpec) for s in specs):
            return f"has no tuple of ArtifactSpec as its {what}"
    params: object = stage.Params  # whatever its author has put there
    if not (isinstance(params, type) and issubclass(params, Params)):
        return "has Params that are no subclass of stages.contract.Params"
    missing = ", ".join(sorted(stage.__abstractmethods__))
    return f"does not define {missing}" if missing else ""
