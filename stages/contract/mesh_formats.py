"""The formats that a mesh can be exported in, and real sizes: what the parent checks a request by.

Standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class MeshFormat:
    """A format of mesh files.

    title      for people
    for_print  the file is closed, turned z up, stands at the origin, and is in millimetres
    unit       metres that its unit stands for where a real size is asked for
    module     what it takes that need not be installed, "" for nothing; package: as pip names it
    """

    name: str
    title: str
    for_print: bool = False
    unit: float = 0.001
    module: str = ""
    package: str = ""


FORMATS: Mapping[str, MeshFormat] = {
    one.name: one
    for one in (
        MeshFormat("glb", "binary glTF 2.0", unit=1.0),
        MeshFormat("obj", "Wavefront OBJ"),
        MeshFormat("ply", "binary PLY"),
        MeshFormat("stl", "binary STL", for_print=True),
        MeshFormat("3mf", "3MF", for_print=True),
        MeshFormat("usdz", "USDZ", unit=1.0, module="pxr", package="usd-core>=26.5,<27"),
    )
}
USUAL = ("glb", "obj")
"""What every run with a mesh has in result/ anyway."""
READABLE = (".glb", ".obj", ".ply", ".stl")
"""Suffixes of mesh files that can be exported anew, and scored."""
PRINT_HEIGHT = 0.1
"""Metres: of STL and 3MF where no height is asked for."""
SHORTEST, TALLEST = 1e-4, 1000.0
"""Metres."""
FEWEST_FACES = 4
"""A tetrahedron's: no closed surface has less."""
MOST_FACES = 5_000_000
"""Of a mesh that is read, which takes about 2 GB."""

_METRES = {"mm": 0.001, "cm": 0.01, "m": 1.0, "in": 0.0254}
_LENGTH = re.compile(r"\s*(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})\s*([a-zA-Z]{1,12})\s*")


def parse_formats(text: str) -> tuple[str, ...]:
    """ "stl,3mf" as names of `FORMATS`, each once. Raises ValueError with what is wrong."""
    names = [name.strip().lower().removeprefix(".") for name in text.split(",")]
    for name in names:
        if name not in FORMATS:
            raise ValueError(f'unknown format "{name[:40]}"; known: {", ".join(FORMATS)}')
    return tuple(dict.fromkeys(names))


def parse_length(text: str) -> float:
    """ "100mm", "10 cm", "0.1m" or "4in" in metres. Raises ValueError with what is wrong."""
    match = _LENGTH.fullmatch(text)
    if match is None:
        raise ValueError(f'"{text[:40]}" is no length; give a number and a unit, as in 100mm')
    number, unit = match.groups()
    if unit not in _METRES:
        raise ValueError(f'unknown unit "{unit}"; known: {", ".join(_METRES)}')
    metres = float(number) * _METRES[unit]
    if not math.isfinite(metres) or not SHORTEST <= metres <= TALLEST:
        raise ValueError(f'"{text[:40]}" is out of range; give 0.1mm to 1000m')
    return metres
