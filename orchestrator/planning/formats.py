"""Formats of mesh files that a request names, checked before anything is started."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Iterable

from orchestrator.errors import ConfigError, UnknownNameError, UsageError
from orchestrator.pipeline.graph import Graph
from stages.contract.artifacts import GLB
from stages.contract.mesh_formats import FORMATS


def require_formats(names: Iterable[str]) -> None:
    """Raises `UnknownNameError`, or `UsageError` for one whose package is not installed."""
    for name in names:
        if name not in FORMATS:
            raise UnknownNameError("format", name, FORMATS)
        wanted = FORMATS[name]
        if wanted.module and importlib.util.find_spec(wanted.module) is None:
            raise UsageError(
                f"format {name} needs a package that is not installed",
                f'{shlex.quote(sys.executable)} -m pip install "{wanted.package}"',
            )


def require_mesh(graph: Graph, names: Iterable[str]) -> None:
    """Raises `ConfigError` where formats are asked for and no node will make a mesh."""
    makes = {spec.name for node in graph.nodes.values() for spec in node.outputs}
    if any(names) and GLB.name not in makes:
        raise ConfigError(
            "--format: nothing of what will run makes a mesh",
            "leave it out, or choose a profile with isomer and no --until before it",
        )
