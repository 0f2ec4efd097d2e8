"""prm.reference and prm.reconstruct as the pipeline runs them, with tiny random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from devtools import solids
from devtools.solids import bundle_of
from devtools.tiny.onnx_net import build_isnet
from devtools.tiny.prm import build_prm
from stages.contract import ArtifactSpec, BadInput, Context, Mesh, StageError, codec
from stages.contract.artifacts import BUNDLE, VIEWS
from stages.geometry.bundle import join, split
from stages.geometry.cameras import Camera, encode_normals
from stages.geometry.raster import open_rasterizer
from stages.lrm.prm import reference as reference_module
from stages.lrm.prm.cameras import condition_vectors
from stages.lrm.prm.masks import silhouettes
from stages.lrm.prm.model import Prm, load_prm
from stages.lrm.prm.params import ReconstructParams, ReferenceParams
from stages.lrm.prm.reconstruct import reconstruct
from stages.lrm.prm.reference import AZIMUTHS, lit_evenly, reference_bundle
from stages.lrm.prm.stage import PrmReconstruct
from stages.process.stage_runner import JobResult, StageRunner
from stages.weights.catalogue import FOLDER_VARIABLE

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
R = 24


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    build_prm(folder)
    return folder


@pytest.fixture(scope="module")
def model(weights: Path) -> Prm:
    return load_prm(weights / "prm" / "final_ckpt.ckpt")


@pytest.fixture(scope="module")
def bundle() -> np.ndarray:
    return bundle_of(solids.animal())


@pytest.fixture(scope="module")
def views(bundle: np.ndarray) -> np.ndarray:
    """(4, 512, 512, 3) uint8, all different: each is darker than the last."""
    rgb, _ = split(bundle)
    shade = np.array([1.0, 0.8, 0.6, 0.4])[:, None, None, None]
    return np.rint(np.where(rgb < 1.0, rgb * shade, 1.0) * 255.0).astype(np.uint8)


def silent(step: int, total: int, note: str = "") -> None:
    pass


# --- through StageRunner
# ----------------------------------------------------------------------------


class Job:
    """One stage behind StageRunner, files in and files out."""

    def __init__(self, stage: str, folder: Path, params: dict[str, Any]) -> None:
        self._folder = folder
        self._core = StageRunner(stage, inline_max_bytes=0)
        self._core.load(params, Context(threads=1))
        self.notes: list[str] = []

    def run(self, spec: ArtifactSpec, value: np.ndarray) -> JobResult:
        source = self._folder / f"{spec.name}.npy"
        np.save(source, value)
        return self._core.run({spec.name: [source]}, self._folder, self._folder, 42, self._progress)

    def read(self, result: JobResult, name: str) -> Any:
        paths = []
        for file in result.outputs[name]:
            path = self._folder / file.file
            (self._folder / file.temp).rename(path)
            paths.append(path)
        return codec.read(self._core.output_spec(name), paths)

    def _progress(self, step: int, total: int, note: str = "") -> None:
        assert 0 <= step <= total
        self.notes.append(note)


def test_reference_makes_a_bundle_of_the_views_and_the_meshs_normals(
    weights: Path, views: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(weights))
    job = Job("prm.reference", tmp_path, {"resolution": R, "chunk_points": 4096})
    made = job.read(job.run(VIEWS, views), "reference_bundle")
    assert made.shape == (1024, 2048, 3)
    rgb, normals = split(made)
    np.testing.assert_array_equal(rgb, views.astype(np.float32) / np.float32(255.0))
    shown = normals.min(axis=-1) < 0.7
    assert (shown.mean(axis=(1, 2)) > 0.03).all()
    assert (normals[:, :40] == 1.0).all()
    assert job.notes == ["read views", "extract mesh", "render", ""]
    again = job.read(job.run(VIEWS, views), "reference_bundle")
    np.testing.assert_array_equal(again, made)


def test_reconstruct_makes_a_coloured_mesh_of_a_bundle(
    weights: Path, bundle: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(weights))
    job = Job("prm.reconstruct", tmp_path, {"resolution": R, "mask": "white"})
    mesh = job.read(job.run(BUNDLE, bundle), "coarse_mesh")
    assert isinstance(mesh, Mesh)
    assert solids.is_closed_solid(mesh)
    assert mesh.colors is not None
    assert np.ptp(mesh.colors.astype(int), axis=0).max() > 20
    assert "find the object (on white)" in job.notes


def test_without_its_weights_the_stage_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(StageError, match="prm") as caught:
        Job("prm.reference", tmp_path, {})
    assert caught.value.kind == "missing_weights"
    assert "models pull prm" in caught.value.hint


def test_a_checkpoint_may_be_given_by_its_path(weights: Path, bundle: np.ndarray) -> None:
    path = str(weights / "prm" / "final_ckpt.ckpt")
    params = ReconstructParams(weights=path, resolution=R, mask="white")
    assert PrmReconstruct.weights(params) == (path,)
    stage = PrmReconstruct(params)
    stage.load(Context())
    assert len(stage.run({"bundle": bundle}, Context())["coarse_mesh"].faces) > 100


def test_the_network_for_masks_is_asked_for_where_it_is_chosen() -> None:
    assert PrmReconstruct.weights(ReconstructParams(mask="u2net")) == ("prm", "u2net")
    assert PrmReconstruct.weights(ReconstructParams()) == ("prm",)


# --- what the model is given ----------------------------------------------------------------------


class Seen:
    """Records what the model's network is given; its planes are computed all the same."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        original = Prm.planes

        def planes(model: Prm, images: torch.Tensor, cameras: torch.Tensor) -> torch.Tensor:
            self.images = images[0].permute(0, 2, 3, 1).numpy()
            self.cameras = cameras[0].numpy()
            return original(model, images, cameras)

        monkeypatch.setattr(Prm, "planes", planes)


def test_the_front_is_shown_to_the_model_at_azimuth_270_and_rendered_from_there(
    model: Prm, views: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The grid of Zero123++ holds left, back, right, front, which the model takes as 0 to 270."""
    seen = Seen(monkeypatch)
    reference_bundle(views, model, ReferenceParams(resolution=R), open_rasterizer("cpu"), silent)
    np.testing.assert_array_equal(seen.images, views[[1, 2, 3, 0]].astype(np.float32) / 255.0)
    np.testing.assert_array_equal(seen.cameras, condition_vectors((0, 90, 180, 270)))
    assert AZIMUTHS == (270.0, 0.0, 90.0, 180.0)


def test_reconstruction_shows_the_columns_as_they_stand_and_masked_by_the_normal_row(
    model: Prm, bundle: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb, normals = split(bundle)
    dirty = np.where(rgb == 1.0, np.float32(0.9), rgb)
    seen = Seen(monkeypatch)
    params = ReconstructParams(resolution=R)
    _, told, _ = reconstruct(join(dirty, normals), model, None, params, silent)
    mask = silhouettes(normals, None, params.background_tolerance)
    assert 0.02 < mask.mean() < 0.5
    np.testing.assert_array_equal(told, mask)
    np.testing.assert_array_equal(seen.images[mask], dirty[mask])
    assert (seen.images[~mask] == 1.0).all()
    np.testing.assert_array_equal(seen.cameras, condition_vectors((0, 90, 180, 270)))


def test_a_bundle_of_another_size_is_resized_for_the_model(
    model: Prm, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(monkeypatch)
    small = bundle_of(solids.ball(), size=320)
    reconstruct(small, model, None, ReconstructParams(resolution=R), silent)
    assert seen.images.shape == (4, 512, 512, 3)
    assert 0.0 <= seen.images.min() < seen.images.max() <= 1.0


# --- the upper row and the tilt -------------------------------------------------------------------


def painted() -> Mesh:
    """A box whose side towards azimuth 270 (-x) is red; the rest is dark blue."""
    box = solids.box(0.9, 1.0, 1.1)
    flat = np.abs(box.vertices[box.faces][..., 0] + 0.45).max(axis=1) < 1e-6
    colors = np.full((len(box.vertices), 3), (0, 0, 60), np.uint8)
    colors[box.faces[flat].ravel()] = (255, 0, 0)
    return replace(box, colors=colors)


@pytest.fixture
def fixed_mesh(monkeypatch: pytest.MonkeyPatch) -> Mesh:
    mesh = painted()
    monkeypatch.setattr(reference_module, "mesh_of", lambda field, params: mesh)
    return mesh


def test_rendered_colours_stand_above_their_normals_with_the_front_first(
    model: Prm, views: np.ndarray, fixed_mesh: Mesh
) -> None:
    made = reference_bundle(
        views, model, ReferenceParams(rgb="render"), open_rasterizer("cpu"), silent
    )
    rgb, normals = split(made)
    np.testing.assert_allclose(rgb[0, 256, 256], (1.0, 0.0, 0.0), atol=0.01)
    encoded_blue = 1.055 * (60 / 255) ** (1 / 2.4) - 0.055
    for tile in rgb[1:]:
        np.testing.assert_allclose(tile[256, 256], (0.0, 0.0, encoded_blue), atol=0.01)
    assert (rgb[:, :20] == 1.0).all()
    assert np.array_equal((rgb < 1.0).any(axis=-1), (normals < 1.0).any(axis=-1))


def test_colours_under_even_light_keep_black_and_white() -> None:
    mesh = Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]], np.int32),
                np.array([[0, 0, 0], [255, 255, 255], [55, 55, 55]], np.uint8))  # fmt: skip
    lit = lit_evenly(mesh)
    assert lit.colors is not None
    assert lit.colors[:, 0].tolist() == [0, 255, 128]


def test_normals_face_the_camera_and_are_tilted_on_request_only(
    model: Prm, views: np.ndarray, fixed_mesh: Mesh
) -> None:
    straight = split(
        reference_bundle(views, model, ReferenceParams(), open_rasterizer("cpu"), silent)
    )[1]
    tilted = split(
        reference_bundle(
            views, model, ReferenceParams(tilted_normals=True), open_rasterizer("cpu"), silent
        )
    )[1]
    wall = encode_normals(np.array([-1.0, 0.0, 0.0]), Camera(270.0))
    np.testing.assert_allclose(straight[0, 256, 256], wall, atol=1e-3)
    # docs/reference.md, "Quirks": a wall that faces the camera.
    np.testing.assert_allclose(straight[:, 256, 256], 4 * [(0.5, 0.456, 0.998)], atol=2e-3)
    assert AZIMUTHS[1] == 0.0  # where the tilt, about x, shows in full
    np.testing.assert_allclose(tilted[1, 256, 256], (0.5, 0.24, 0.93), atol=5e-3)
    assert np.array_equal(tilted == 1.0, straight == 1.0)


# --- masks and refusals ---------------------------------------------------------------------------


def test_a_matting_networks_mask_is_used_as_the_reference_uses_it() -> None:
    golden = np.load(GOLDEN / "masks.npz")
    seen = []

    def stand_in(rgb: np.ndarray) -> np.ndarray:
        seen.append(rgb)
        return np.minimum(np.abs(255 - rgb.astype(int)).sum(axis=-1), 255).astype(np.uint8)

    mask = silhouettes(golden["tiles"].transpose(0, 2, 3, 1), stand_in, 0.1)
    np.testing.assert_array_equal(np.stack(seen), golden["uint8_seen_by_rembg"])
    np.testing.assert_array_equal(mask, golden["get_background"][:, 0] > 0.5)


@pytest.mark.parametrize("mask", ["u2net", "auto"])
def test_the_network_is_used_where_it_is_asked_for_or_there(
    bundle: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mask: str
) -> None:
    """The stand-in takes the darkest for the object, so it cuts off more than the background."""
    build_prm(tmp_path)
    build_isnet(tmp_path, 320, "u2net")
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    seen = Seen(monkeypatch)
    job = Job("prm.reconstruct", tmp_path, {"resolution": R, "mask": mask})
    job.run(BUNDLE, bundle)
    assert "find the object (u2net)" in job.notes
    shown = (seen.images < 1.0).any(axis=-1)
    on_white = silhouettes(split(bundle)[1], None, 0.1)
    assert 0.1 < shown.sum() / on_white.sum() < 0.9


def test_without_the_network_auto_looks_for_white(
    weights: Path, bundle: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(weights))
    monkeypatch.setattr("stages.lrm.prm.stage.locate", lambda name: None)
    job = Job("prm.reconstruct", tmp_path, {"resolution": R})
    job.run(BUNDLE, bundle)
    assert "find the object (on white)" in job.notes


def test_a_bundle_without_an_object_is_refused(model: Prm) -> None:
    with pytest.raises(BadInput, match="no object") as caught:
        reconstruct(np.ones((256, 512, 3), np.float32), model, None, ReconstructParams(), silent)
    assert "mask=white" in caught.value.hint


def test_a_picture_that_is_no_bundle_is_refused(model: Prm) -> None:
    with pytest.raises(BadInput, match="bundle is"):
        reconstruct(np.ones((100, 100, 3), np.float32), model, None, ReconstructParams(), silent)
