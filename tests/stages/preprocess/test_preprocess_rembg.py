"""background=rembg: the network's mask, its place in both framings, and doing without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from devtools.pictures import cutout, disc, file_of, on_white, ring
from devtools.tiny.onnx_net import build_isnet, convolution_net
from stages.contract import BadInput, Context, StageError
from stages.models.matting import NETWORKS, OnnxMatting, load_matting
from stages.preprocess import reference
from stages.preprocess.stage import Preprocess, PreprocessParams
from stages.process.stage_runner import StageRunner


@pytest.fixture(autouse=True)
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of weights, and none anywhere else."""
    folder = tmp_path / "models"
    monkeypatch.setenv("KISS3D_MODELS", str(folder))
    monkeypatch.setattr("stages.weights.catalogue.own_folder", lambda model: tmp_path / "nowhere")
    return folder


def run(data: bytes, **params: Any) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Image (S, S, 3), alpha (S, S) and the notes of the progress."""
    notes: list[str] = []
    context = Context(progress=lambda step, total, note="": notes.append(note))
    stage = Preprocess(PreprocessParams(**params))
    stage.load(context)
    outputs = stage.run({"input_image": data}, context)
    for spec in stage.outputs:
        if spec.name in outputs:
            spec.check(outputs[spec.name])
    return outputs["image"], outputs["alpha"][..., 0], notes


def by_hand(rgb: np.ndarray, size: int, std: tuple[float, float, float]) -> np.ndarray:
    """rembg's steps around the tiny network (minus the sum of its channels), in plain numpy."""
    picture = Image.fromarray(rgb)
    small = np.array(picture.resize((size, size), Image.Resampling.LANCZOS)).astype(np.float64)
    normal = (small / small.max() - np.array([0.485, 0.456, 0.406])) / np.array(std)
    saliency = -normal.astype(np.float32).sum(axis=-1)
    stretched = (saliency - saliency.min()) / (saliency.max() - saliency.min())
    mask = Image.fromarray((stretched * 255).astype(np.uint8))
    return np.array(mask.resize(picture.size, Image.Resampling.LANCZOS))


@pytest.mark.parametrize("name", ["isnet-general-use", "u2net"])
def test_the_mask_is_rembgs_arithmetic(name: str, models: Path) -> None:
    build_isnet(models, NETWORKS[name].size, name)
    rgb = np.asarray(on_white(disc(150, 0.5, cx=0.2))) // 2  # no white: divided by its own maximum
    mask = load_matting(name, threads=1).mask(rgb)
    assert mask.dtype == np.uint8
    assert mask.shape == (150, 150)
    expected = by_hand(rgb, NETWORKS[name].size, NETWORKS[name].std)
    # Sums in another order may fall on the other side of a truncation.
    assert np.abs(mask.astype(int) - expected).max() <= 1
    assert (mask != expected).mean() < 0.01


def test_a_picture_that_is_not_square_keeps_its_shape(models: Path) -> None:
    build_isnet(models)
    mask = load_matting("isnet-general-use", threads=2).mask(
        np.asarray(on_white(disc(120)))[20:100, :, :]
    )
    assert mask.shape == (80, 120)
    assert mask[40, 60] > 150
    assert mask[2, 2] < 30


def test_a_picture_without_contrast_has_an_empty_mask(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(convolution_net((1.0, 1.0, 1.0), 32))
    matting = OnnxMatting(path, 32, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
    for grey in (0, 128, 255):
        assert not matting.mask(np.full((40, 50, 3), grey, np.uint8)).any()


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\x08\x08"])
def test_a_file_that_is_no_network_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "isnet-general-use.onnx"
    path.write_bytes(content)
    with pytest.raises(StageError, match="no ONNX network") as caught:
        OnnxMatting(path, 32, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
    assert caught.value.kind == "missing_weights"
    assert caught.value.hint


def test_a_network_of_another_size_is_refused(tmp_path: Path) -> None:
    path = build_isnet(tmp_path, 320)
    with pytest.raises(StageError, match=r"takes \(1, 3, 320, 320\), expected") as caught:
        OnnxMatting(path, 1024, (0.0,) * 3, (1.0,) * 3)
    assert caught.value.kind == "missing_weights"
    assert caught.value.hint


def test_rembg_cuts_out_and_recentres(models: Path) -> None:
    build_isnet(models)
    image, alpha, notes = run(file_of(on_white(ring(400, cx=0.2))), background="rembg")
    rows = np.flatnonzero((alpha > 12).any(axis=1))
    assert (rows[-1] - rows[0] + 1) / len(alpha) == pytest.approx(0.85, abs=0.02)
    assert abs(rows[0] - (len(alpha) - 1 - rows[-1])) <= 1
    assert alpha[len(alpha) // 2, len(alpha) // 2] < 12  # the hole
    assert (image[alpha == 0] == 255).all()
    assert any("rembg" in note for note in notes)


def test_rembg_with_the_reference_framing_blends_its_mask_twice(models: Path) -> None:
    build_isnet(models)
    rgb = np.asarray(on_white(disc(160, 0.3, cx=-0.5)))
    image, alpha, _ = run(file_of(Image.fromarray(rgb)), background="rembg", framing="reference")
    mask = load_matting("isnet-general-use", threads=1).mask(rgb)
    expected_image, expected_alpha = reference.frame(rgb, mask, 0.85)
    assert np.array_equal(image, expected_image)
    assert np.array_equal(alpha, expected_alpha[..., 0])


def test_the_network_sees_a_transparent_picture_on_grey(models: Path) -> None:
    build_isnet(models)
    rgba = np.asarray(cutout(disc(120)))
    image, _, _ = run(file_of(cutout(disc(120))), background="rembg", framing="reference")
    on_grey = reference.flatten_on_grey(rgba)
    mask = load_matting("isnet-general-use", threads=1).mask(on_grey)
    assert np.array_equal(image, reference.frame(on_grey, mask, 0.85)[0])


@pytest.mark.parametrize("framing", ["centered", "reference"])
def test_a_picture_where_the_network_finds_nothing_is_bad_input(models: Path, framing: str) -> None:
    build_isnet(models)
    with pytest.raises(BadInput, match="foreground"):
        run(file_of(Image.new("RGB", (64, 64), "grey")), background="rembg", framing=framing)


def test_auto_prefers_alpha_then_is_net_then_a_plain_backdrop(models: Path) -> None:
    _, _, without = run(file_of(on_white(disc(100))))
    build_isnet(models)
    _, _, with_network = run(file_of(on_white(disc(100))))
    _, _, with_alpha = run(file_of(cutout(disc(100))))
    assert "cut out (plain backdrop)" in without
    assert any("rembg" in note for note in with_network)
    assert any("alpha" in note for note in with_alpha)


def test_only_rembg_asks_for_weights() -> None:
    assert Preprocess.weights(PreprocessParams(background="rembg")) == ("isnet-general-use",)
    for background in ("auto", "alpha", "grabcut", "none"):
        assert Preprocess.weights(PreprocessParams.model_validate({"background": background})) == ()


def test_rembg_without_its_weights_fails_when_loaded() -> None:
    stage = Preprocess(PreprocessParams(background="rembg"))
    with pytest.raises(StageError, match="isnet-general-use") as caught:
        stage.load(Context())
    assert caught.value.kind == "missing_weights"


def test_the_network_is_read_once_for_many_pictures(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stages.models import matting as matting_onnx

    build_isnet(models)
    read: list[str] = []
    original = matting_onnx.OnnxMatting

    def counted(path: Path, *arguments: Any) -> OnnxMatting:
        read.append(path.name)
        return original(path, *arguments)

    monkeypatch.setattr(matting_onnx, "OnnxMatting", counted)
    picture = tmp_path / "in.png"
    picture.write_bytes(file_of(on_white(disc(80))))
    core = StageRunner("preprocess", inline_max_bytes=1 << 26)
    core.load({"background": "rembg"}, Context())
    for _ in range(2):
        result = core.run({"input_image": [picture]}, tmp_path, tmp_path, 42, lambda *_: None)
        assert set(result.outputs) == {"image", "alpha"}
    core.close()
    assert read == ["isnet-general-use.onnx"]
