"""From bytes to a `Surface`: which reader takes them, and what becomes of its errors."""

from __future__ import annotations

import struct

from stages.contract import BadInput
from stages.mesh_views.given import Given
from stages.mesh_views.gltf import read_gltf
from stages.mesh_views.obj import read_obj
from stages.mesh_views.plain import read_ply, read_stl
from stages.mesh_views.surface import Part, Surface, join
from stages.mesh_views.told import Told

_TITLES = {"glb": "GLB", "gltf": "glTF", "obj": "OBJ", "ply": "PLY", "stl": "STL"}


def read_surface(given: Given, max_faces: int, told: Told) -> Surface:
    """Raises BadInput for what is damaged, too large, or has nothing to look at."""
    try:
        parts = _parts(given, max_faces, told)
    except (BadInput, ImportError, MemoryError):
        raise
    except Exception as error:  # a damaged file makes each reader stumble in its own way
        raise BadInput(
            f"the {_TITLES[given.kind]} file is damaged or incomplete: {_said(error)}",
            "Open it in a 3D program, and save it again as .glb.",
        ) from error
    return join(parts)


def _said(error: Exception) -> str:
    """What a reader stumbled over, in words."""
    if isinstance(error, ValueError):
        return str(error)
    if isinstance(error, (struct.error, EOFError)):
        return "it ends before all is there that it announces"
    return f"its parts do not fit together ({type(error).__name__}: {error})"


def _parts(given: Given, max_faces: int, told: Told) -> list[Part]:
    if given.kind in ("glb", "gltf"):
        return read_gltf(given.content, given.kind == "glb", given.beside, max_faces, told)
    if given.kind == "obj":
        return read_obj(given.content, given.beside, max_faces, told)
    if given.kind == "ply":
        return read_ply(given.content, given.beside, max_faces, told)
    return read_stl(given.content, max_faces)
