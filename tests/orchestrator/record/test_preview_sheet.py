"""result/preview.png shows the user's picture as a person sees it, and what the stages made."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.record.manifest import FileRecord, InputRecord, Manifest, NodeRecord
from orchestrator.record.preview_sheet import PreviewSheet
from orchestrator.record.run_directory import RunDirectory
from orchestrator.record.thumbnails import GROUND

ARTIFACTS = {
    "image": np.full((64, 64, 3), 10, np.uint8),
    "bundle": np.linspace(0.0, 1.0, 128 * 256 * 3, dtype=np.float32).reshape(128, 256, 3),
    "renders": np.stack([np.full((64, 64, 3), 40 * side, np.uint8) for side in range(5)]),
}
WRITTEN = dict.fromkeys(ARTIFACTS, "node")


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run whose one node has written an image, a bundle and renders."""
    (tmp_path / "node").mkdir()
    Image.new("RGB", (300, 100), "blue").save(tmp_path / "input.png")
    for name, array in ARTIFACTS.items():
        np.save(tmp_path / "node" / f"{name}.npy", array)
    files = {name: [FileRecord(file=f"{name}.npy", size=1)] for name in ARTIFACTS}
    record = InputRecord(source="in.png", file="input.png", size=1, digest="")
    return RunDirectory(
        tmp_path,
        Manifest(given={"input_image": record}, nodes={"node": NodeRecord(artifacts=files)}),
    )


def save(run: RunDirectory, name: str, array: np.ndarray) -> None:
    np.save(run.path / "node" / f"{name}.npy", array)
    run.manifest.nodes["node"].artifacts[name] = [FileRecord(file=f"{name}.npy", size=1)]


def test_a_sheet_has_the_input_the_views_the_normals_and_the_mesh(run):
    sheet = Image.open(io.BytesIO(PreviewSheet(run).png(WRITTEN)))
    assert sheet.size == (5 * 256, 3 * (256 + 22))
    middles = [sheet.getpixel((256 * (1 + side) + 128, 2 * 278 + 150)) for side in range(4)]
    assert middles == [(40 * side,) * 3 for side in range(4)]
    assert sheet.getpixel((128, 2 * 278 + 150)) == (160,) * 3, "the mesh once more"


def cells(png: bytes) -> np.ndarray:
    """(rows, columns): whether each cell of a sheet has a picture in it."""
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    rows, columns = pixels.shape[0] // 278, pixels.shape[1] // 256
    tiles = pixels.reshape(rows, 278, columns, 256, 3)[:, 22:]
    return (tiles != GROUND).any(axis=(1, 3, 4))


@pytest.mark.parametrize("colour", [0, 128, 255])
def test_an_object_stands_out_from_the_sheet_whatever_its_colour(run, colour):
    inside = np.zeros((64, 64, 1), bool)
    inside[16:48, 16:48] = True
    picture = np.where(inside, np.uint8(colour), np.uint8(255)).repeat(3, axis=-1)
    cover = np.where(inside, np.uint8(255), np.uint8(0))
    normals = np.where(inside, np.uint8((128, 128, 255)), np.uint8(255))
    save(run, "image", picture)
    save(run, "alpha", cover)
    save(run, "bundle", np.vstack([np.hstack([tile] * 4) for tile in (picture, normals)]))
    save(run, "renders", np.stack([np.concatenate([picture, cover], axis=-1)] * 5))
    sheet = Image.open(io.BytesIO(PreviewSheet(run).png({**WRITTEN, "alpha": "node"})))
    for row, column in [
        (1, 0),
        (2, 0),
        *((row, column) for row in (0, 2) for column in range(1, 5)),
    ]:
        left, top = 256 * column, 278 * row + 22
        assert sheet.getpixel((left + 128, top + 128)) == (colour,) * 3
        assert sheet.getpixel((left + 20, top + 20)) == (GROUND,) * 3


def test_no_cell_is_empty(run):
    found = cells(PreviewSheet(run).png(WRITTEN))
    assert found.shape == (3, 5)
    assert found.all()


@pytest.mark.parametrize(
    ("there", "shape"),
    [({"image"}, (1, 2)), ({"image", "bundle"}, (2, 5)), ({"renders"}, (1, 5)), (set(), None)],
)
def test_what_is_not_there_leaves_no_gap(run, there, shape):
    (run.path / "node").mkdir(exist_ok=True)
    png = PreviewSheet(run).png(dict.fromkeys(there, "node"))
    if shape is None:
        assert png == b"", "the input alone is no news"
    else:
        assert cells(png).shape == shape
        assert cells(png).all()


def test_a_sheet_that_was_prepared_is_the_same_without_decoding_again(run):
    whole = PreviewSheet(run).png(WRITTEN)
    sheet = PreviewSheet(run)
    sheet.prepare({"image": "node", "bundle": "node"})
    for name in ("input.png", "node/image.npy", "node/bundle.npy"):
        (run.path / name).unlink()
    assert sheet.png(WRITTEN) == whole


def test_what_cannot_be_drawn_ahead_is_told_when_the_sheet_is_drawn(run):
    (run.path / "node" / "image.npy").write_bytes(b"nothing")
    sheet = PreviewSheet(run)
    sheet.prepare(WRITTEN)
    with pytest.raises(ValueError, match=r"not a \.npy file"):
        sheet.png(WRITTEN)
