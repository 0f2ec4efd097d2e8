"""How well does a mesh agree with the pictures that it was made from? No true mesh is needed.

    python -m stages.evaluation.agreement JOB

JOB is a JSON object with paths of one run's files: `mesh` (its three .npy), and where there are
such `image`, `alpha`, `given_views` and `bundle`; and `radius`, the distance of the bundle's
cameras. Without a picture the bundle's colours are what the mesh is held to. Prints one JSON
object: see `Agreement`; or `error` and `hint` with exit status 2 if a file cannot be used.

The mesh is drawn from the sides of which there are pictures. Pictures say nothing of scale, so an
object in a picture and its drawing are laid over each other as high as each other, in the middle.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from stages.contract import ArtifactSpec, BadInput, ContractError, Mesh, artifacts, codec
from stages.evaluation.views import Views, silhouette_iou, view_mesh
from stages.geometry.bundle import split
from stages.geometry.cameras import bundle_cameras, decode_normals
from stages.geometry.masks import foreground
from stages.geometry.raster import open_rasterizer

SIZE = 256
"""Side at which pictures are compared, pixels."""
HIGH = 0.8
"""Of it, the longer side of an object's box."""
FAR = 50.0
"""Difference in CIELAB that counts as none in common."""
GIVEN = ("back", "left", "right")
Pictures = dict[str, tuple[np.ndarray, np.ndarray]]
"""Side -> (S, S, 3) uint8 sRGB and (S, S) uint8 coverage."""
VIEW_OF = {"front": 0, "left": 1, "back": 2, "right": 3}


@dataclass(frozen=True)
class Agreement:
    """1 is the best of each, 0 the worst.

    score    mean of outlines, colours and, where there are any, normals
    outlines overlap over union, mean of the pictures' sides
    colours  1 - difference in CIELAB / `FAR`, where both show the object
    normals  1 - angle / 90 degrees between the mesh and the bundle's normal maps; None without
    sides    the pictures that it was held to, front first: outlines and colours of each
    """

    score: float
    outlines: float
    colours: float
    normals: float | None
    sides: dict[str, tuple[float, float]]


def agreement(
    mesh: Mesh,
    pictures: Mapping[str, tuple[np.ndarray, np.ndarray]],
    normal_tiles: np.ndarray | None,
    radius: float,
    threads: int = 2,
) -> Agreement:
    """Hold a mesh with colours to pictures.

    pictures      side -> (S, S, 3) uint8 sRGB and (S, S) uint8 coverage
    normal_tiles  (4, T, T, 3) in [0, 1], bundle encoding on white, or None
    radius        distance of the bundle's cameras
    """
    seen = view_mesh(mesh, bundle_cameras(radius), SIZE, open_rasterizer("cpu", threads=threads))
    assert seen.rgb is not None, "a mesh without colours"
    sides = {}
    for name, (image, cover) in pictures.items():
        view = VIEW_OF[name]
        drawn = np.rint(seen.rgb[view] * 255.0).astype(np.uint8)
        ours = _laid(drawn, np.where(seen.mask[view], np.uint8(255), np.uint8(0)))
        theirs = _laid(image, cover)
        sides[name] = _side_agreement(ours, theirs)
    outlines = float(np.mean([side[0] for side in sides.values()]))
    colours = float(np.mean([side[1] for side in sides.values()]))
    normals = None if normal_tiles is None else _normal_agreement(seen, normal_tiles)
    parts = [outlines, colours, *([] if normals is None else [normals])]
    return Agreement(float(np.mean(parts)), outlines, colours, normals, sides)


def _laid(image: np.ndarray, cover: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(SIZE, SIZE, 3) CIELAB and (SIZE, SIZE) bool: the object `HIGH` high, in the middle."""
    inside = cover > 127
    if not inside.any():
        return np.zeros((SIZE, SIZE, 3), np.float32), np.zeros((SIZE, SIZE), bool)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    high, wide = rows[-1] + 1 - rows[0], columns[-1] + 1 - columns[0]
    scale = HIGH * SIZE / max(high, wide)
    middle = ((columns[0] + columns[-1]) / 2.0, (rows[0] + rows[-1]) / 2.0)
    shift = [SIZE / 2.0 - 0.5 - scale * at for at in middle]
    matrix = np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])
    size = (SIZE, SIZE)
    if scale < 1.0:  # warpAffine does not average
        image, cover = (cv2.GaussianBlur(p, (0, 0), 0.4 / scale) for p in (image, cover))
    colours = cv2.warpAffine(image, matrix, size, borderValue=(255, 255, 255))
    lab = cv2.cvtColor(colours.astype(np.float32) / np.float32(255.0), cv2.COLOR_RGB2LAB)
    return lab, cv2.warpAffine(cover, matrix, size) > 127


def _side_agreement(
    ours: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]
) -> tuple[float, float]:
    overlap = float(silhouette_iou(ours[1][None], theirs[1][None])[0])
    both = ours[1] & theirs[1]
    if not both.any():
        return overlap, 0.0
    difference = np.linalg.norm(ours[0][both] - theirs[0][both], axis=1)
    return overlap, float(1.0 - np.minimum(difference, FAR).mean() / FAR)


def _normal_agreement(seen: Views, tiles: np.ndarray) -> float:
    angles = []
    for view, camera in enumerate(seen.cameras):
        tile = cv2.resize(
            tiles[view].astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_AREA
        )
        both = seen.mask[view] & ((1.0 - tile).max(axis=-1) > 0.15)
        if both.any():
            a, b = (decode_normals(n[both], camera) for n in (seen.normals[view], tile))
            cosine = np.clip((a * b).sum(axis=1), -1.0, 1.0)
            angles.append(float(np.degrees(np.arccos(cosine)).mean()))
    return max(0.0, 1.0 - float(np.mean(angles)) / 90.0) if angles else 0.0


def of_files(job: Mapping[str, Any]) -> Agreement:
    """The agreement of a run's files: see the module. Raises BadInput."""
    try:
        mesh = codec.read(artifacts.MESH, [Path(path) for path in job["mesh"]])
        rgb, tiles = None, None
        if job.get("bundle"):
            rgb, tiles = split(_read(artifacts.BUNDLE, job["bundle"]))
        pictures = _pictures(job) if job.get("image") else _of_bundle(rgb, tiles)
        artifacts.MESH.check(mesh)
        if mesh.colors is None:
            raise BadInput("the mesh has no colours", "it is no result of the stage isomer")
        return agreement(mesh, pictures, tiles, float(job["radius"]))
    except (ContractError, KeyError, TypeError, ValueError) as error:
        raise BadInput(f"the run's files cannot be compared: {error}") from error


def _pictures(job: Mapping[str, Any]) -> Pictures:
    """What the user gave, cut out."""
    alpha = _read(artifacts.ALPHA, job["alpha"])
    found = {"front": (_read(artifacts.IMAGE, job["image"]), alpha[..., 0])}
    if job.get("given_views"):
        for name, layer in zip(
            GIVEN, _read(artifacts.GIVEN_VIEWS, job["given_views"]), strict=True
        ):
            if layer[..., 3].any():
                found[name] = (layer[..., :3], layer[..., 3])
    return found


def _of_bundle(rgb: np.ndarray | None, normals: np.ndarray | None) -> Pictures:
    """Of words, the bundle is all that a mesh can be held to."""
    if rgb is None or normals is None:
        raise BadInput("the run has neither a picture nor a bundle")
    shown = foreground(normals, 0.1, 64)
    return {
        name: (np.rint(rgb[view] * 255.0).astype(np.uint8), np.uint8(255) * shown[view])
        for name, view in VIEW_OF.items()
    }


def _read(spec: ArtifactSpec, path: str) -> np.ndarray:
    """An array, whatever artifact of the same kind its file is named after."""
    return np.array(codec.read(replace(spec, name=Path(path).stem), [Path(path)]))


def main() -> int:
    try:
        result = of_files(json.loads(sys.argv[1]))
    except BadInput as error:
        print(json.dumps({"error": error.message, "hint": error.hint}))
        return 2
    print(json.dumps(asdict(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
