"""What the network's depths are worth: bench's shapes, which are never trained on, as solids.

    python -m training.compare [--only NAME ...] [--sheet FILE.png]

Each shape of bench/geometry/shapes.py is seen by the bundle's front camera. From the picture alone
come a front and a back sheet, and the solid between them; nothing is smoothed, coloured or carved.
F-scores (tau 0.05, boxes normalised, as `bench.geometry.quality` does it) of

membrane  the silhouette's own inflation, front and back alike (a disc becomes a ball)
network   the network's front, and its front less its thickness
blend     the network's front; thickness from the network where it is sure, else the membrane's
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion, distance_transform_edt, map_coordinates
from skimage.measure import marching_cubes

from bench.geometry.quality import front_picture
from bench.geometry.shapes import FLAT, SHAPES
from orchestrator.system.text import format_table
from stages.contract import Mesh
from stages.evaluation import compare_surfaces, normalized
from stages.geometry.cameras import bundle_cameras
from stages.models.sketch_net import SIDE
from stages.models.sketch_net.predict import Sketch, load_network, sketch

SHARE = 0.85
NODES = 128
SURE = 0.45
"""Certainty from which the network's thickness counts fully; none of it counts at half of that."""
KINDS = ("membrane", "network", "blend")


def framed(picture: Image.Image) -> tuple[np.ndarray, np.ndarray]:
    """RGBA as preprocess frames it: (256, 256, 3) uint8 on white and (256, 256) bool."""
    box = picture.getchannel("A").getbbox()
    assert box is not None
    cut = picture.crop(box)
    side = round(max(cut.size) / SHARE)
    square = Image.new("RGBA", (side, side), (255, 255, 255, 0))
    square.paste(cut, ((side - cut.width) // 2, (side - cut.height) // 2))
    white = Image.new("RGBA", square.size, "white")
    white.alpha_composite(square)
    small = white.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    alpha = square.getchannel("A").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small), np.asarray(alpha) > 127


def membrane(mask: np.ndarray) -> np.ndarray:
    """(S, S) half thickness sqrt(f) with -laplace(f) = 4 inside, in half sides; f is 0 outside."""
    from scipy.sparse import coo_matrix, eye
    from scipy.sparse.linalg import spsolve

    index = np.full(mask.shape, -1)
    index[mask] = np.arange(mask.sum())
    rows, columns = [], []
    for axis in (0, 1):
        for step in (-1, 1):
            near = np.roll(index, step, axis)
            both = mask & (near >= 0)
            rows.append(index[both])
            columns.append(near[both])
    row, column = np.concatenate(rows), np.concatenate(columns)
    count = int(mask.sum())
    links = coo_matrix((np.ones(len(row)), (row, column)), shape=(count, count))
    height = spsolve((4.0 * eye(count) - links).tocsc(), np.full(count, 4.0))
    made = np.zeros(mask.shape)
    made[mask] = np.sqrt(height) * (2.0 / SIDE)
    return made


def sheets(kind: str, told: Sketch, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Front and back depths (S, S), towards the camera, in half sides."""
    half = membrane(mask)
    if kind == "membrane":
        return half, -half
    thickness = told.thickness
    if kind == "blend":
        sure = np.clip((told.certainty - SURE / 2.0) / (SURE / 2.0), 0.0, 1.0)
        thickness = sure * thickness + (1.0 - sure) * 2.0 * half
    return told.front, told.front - thickness


def solid(kind: str, told: Sketch, mask: np.ndarray) -> Mesh:
    """What lies between two sheets, in frame W: seen in perspective by the bundle's front camera,
    but the membrane, which knows none, in parallel."""
    front, back = sheets(kind, told, mask)
    camera = bundle_cameras()[0]
    middle = camera.focal  # half the picture is 1 at the object's middle
    # Values at the rim are half the background's: the object's own go on beyond the outline.
    inner = binary_erosion(mask, iterations=1)
    inner = inner if inner.any() else mask
    rows, columns = distance_transform_edt(~inner, return_distances=False, return_indices=True)
    keep = mask & ~inner
    front, back = (
        np.where(keep | ~mask, values[rows, columns], values) for values in (front, back)
    )
    outline = (distance_transform_edt(mask) - distance_transform_edt(~mask)) * (2.0 / SIDE)
    axis = np.linspace(-1.1, 1.1, NODES)
    deep = np.linspace(min(-1.1, back[mask].min() - 0.1), max(1.1, front[mask].max() + 0.1), NODES)
    x, y, z = np.meshgrid(axis, axis, deep, indexing="ij")
    scale = 1.0 if kind == "membrane" else middle / (middle - z)
    at = [(1.0 - y * scale) * SIDE / 2.0 - 0.5, (x * scale + 1.0) * SIDE / 2.0 - 0.5]
    ahead, behind, inside = (
        map_coordinates(values, at, order=1, mode="nearest") for values in (front, back, outline)
    )
    field = np.minimum(np.minimum(ahead - z, z - behind), inside)
    padded = np.pad(field, 1, constant_values=-1.0)
    vertices, faces, _, _ = marching_cubes(padded, 0.0, gradient_direction="ascent")
    steps = np.array([axis[1] - axis[0], axis[1] - axis[0], deep[1] - deep[0]])
    local = (vertices - 1.0) * steps + np.array([axis[0], axis[0], deep[0]])
    return Mesh((local @ camera.axes.T).astype(np.float32), faces.astype(np.int32))


def sheet(rows: list[tuple[np.ndarray, Sketch, np.ndarray]], path: Path) -> None:
    """Pictures, fronts, normals, thicknesses and certainties, one shape a row."""
    strips = []
    for picture, told, mask in rows:
        grey = (told.front * 0.5 + 0.5, told.thickness * 0.6, told.certainty)
        panels = [np.repeat(np.clip(g, 0.0, 1.0)[..., None], 3, axis=2) for g in grey]
        panels.insert(1, told.normal * 0.5 + 0.5)
        looks = [picture / 255.0, *(panel * mask[..., None] for panel in panels)]
        strips.append(np.concatenate(looks, axis=1))
    image = Image.fromarray((np.concatenate(strips) * 255.0).astype(np.uint8))
    image.resize((image.width // 2, image.height // 2)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=tuple(FLAT | SHAPES))
    parser.add_argument("--sheet", type=Path)
    given = parser.parse_args()
    net = load_network()
    table, seen, every = [], [], []
    for name in given.only or tuple(SHAPES | FLAT):
        truth = (SHAPES | FLAT)[name]()
        picture, mask = framed(front_picture(truth))
        told = sketch(net, picture)
        overlap = (mask & (told.alpha > 0.5)).sum() / (mask | (told.alpha > 0.5)).sum()
        scores = [
            compare_surfaces(
                normalized(solid(kind, told, mask)), normalized(truth), outside_only=True
            ).f_score
            for kind in KINDS
        ]
        every.append([*scores, overlap])
        table.append((name, *(f"{value:.3f}" for value in every[-1])))
        print("  ".join(table[-1]), flush=True)
        seen.append((picture, told, mask))
    means = np.mean(every, axis=0)
    table.append(("mean", *(f"{value:.3f}" for value in means)))
    print(format_table(("F-score", *KINDS, "IoU of alpha"), table))
    if given.sheet:
        sheet(seen, given.sheet)


if __name__ == "__main__":
    main()
