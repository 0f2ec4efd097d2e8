"""result/preview.png shows the user's picture as a person sees it, and what the stages made."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.record.manifest import FileRecord, InputRecord, Manifest, NodeRecord
from orchestrator.record.preview_sheet import PreviewSheet, input_thumbnail
from orchestrator.record.run_directory import RunDirectory


def test_a_rotated_photo_stands_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    Image.new("RGB", (400, 100), "red").save(tmp_path / "in.jpg", exif=exif)
    assert input_thumbnail(tmp_path / "in.jpg").size == (64, 256)


@pytest.mark.parametrize(("name", "dtype"), [("in.png", np.uint16), ("in.tif", np.float32)])
def test_wide_greys_are_scaled_not_clipped(tmp_path, name, dtype):
    ramp = np.tile(np.linspace(0.0, 65535.0, 64), (64, 1)).astype(dtype)
    Image.fromarray(ramp).save(tmp_path / name)
    row = np.asarray(input_thumbnail(tmp_path / name))[32, :, 0]
    assert row[0] == 0
    assert row[-1] == 255
    assert 120 < row[32] < 136


def test_a_damaged_picture_has_no_tile(tmp_path):
    (tmp_path / "in.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    assert input_thumbnail(tmp_path / "in.png") is None


ARTIFACTS = {
    "image": np.full((64, 64, 3), 10, np.uint8),
    "bundle": np.linspace(0.0, 1.0, 128 * 256 * 3, dtype=np.float32).reshape(128, 256, 3),
    "renders": np.stack([np.full((64, 64, 3), 50 * side, np.uint8) for side in range(5)]),
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


def test_a_sheet_has_the_input_the_views_the_normals_and_the_mesh(run):
    sheet = Image.open(io.BytesIO(PreviewSheet(run).png(WRITTEN)))
    assert sheet.size == (5 * 256, 3 * (256 + 22))
    middles = [sheet.getpixel((256 * (1 + side) + 128, 2 * 278 + 150)) for side in range(4)]
    assert middles == [(50 * side,) * 3 for side in range(4)]
    assert sheet.getpixel((128, 2 * 278 + 150)) == (200,) * 3, "the mesh once more"


def cells(png: bytes) -> np.ndarray:
    """(rows, columns): whether each cell of a sheet has a picture in it."""
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    rows, columns = pixels.shape[0] // 278, pixels.shape[1] // 256
    tiles = pixels.reshape(rows, 278, columns, 256, 3)[:, 22:]
    return (tiles < 250).any(axis=(1, 3, 4))


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
