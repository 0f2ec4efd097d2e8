"""framing=reference: exactly the reference's bytes, quirks included.

golden/preprocess.npz was recorded from the reference code with a fixed network mask.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from devtools.pictures import cutout, disc, file_of, on_white, ring
from stages.contract import BadInput, Context
from stages.preprocess import reference
from stages.preprocess.stage import Preprocess, PreprocessParams


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """background=auto must not find this machine's own weights."""
    monkeypatch.setattr("stages.preprocess.stage.locate", lambda name: None)


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).resolve().parents[2] / "golden" / "preprocess.npz") as arrays:
        return dict(arrays)


def same_picture(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Up to one level of 255: another processor or release may round the other way."""
    return found.shape == wanted.shape and np.abs(found.astype(int) - wanted).max() <= 1


def test_an_rgba_picture_is_pasted_on_grey(golden: dict[str, np.ndarray]) -> None:
    rgba = np.concatenate([golden["rgb_in"], golden["network_mask"][..., None]], axis=-1)
    assert same_picture(reference.flatten_on_grey(rgba), golden["rgba_input_pasted_on_grey"])


def test_the_mask_is_applied_twice(golden: dict[str, np.ndarray]) -> None:
    result = reference.cut_out_on_white(golden["rgb_in"], golden["network_mask"])
    assert same_picture(result, golden["after_remove_background_rgba"])


@pytest.mark.parametrize(
    ("ratio", "pad", "name"),
    [(0.85, 255, "resize_foreground_085_255"), (0.7, 0, "resize_foreground_07_0")],
)
def test_resize_foreground_drops_the_last_row_and_column(
    golden: dict[str, np.ndarray], ratio: float, pad: int, name: str
) -> None:
    assert same_picture(reference.resize_foreground(golden["rgba_in"], ratio, pad), golden[name])


def test_the_whole_chain_matches_and_does_not_recentre(golden: dict[str, np.ndarray]) -> None:
    image, alpha = reference.frame(golden["rgb_in"], golden["network_mask"], 0.85)
    assert same_picture(image, golden["final_rgb"])
    assert alpha.shape == (89, 89, 1)
    padded = reference.resize_foreground(golden["after_remove_background_rgba"], 0.85, 255)
    assert same_picture(padded, golden["after_resize_foreground_rgba"])


def test_alpha_lies_where_the_object_is_in_the_image(golden: dict[str, np.ndarray]) -> None:
    mask = golden["network_mask"]
    _, alpha = reference.frame(golden["rgb_in"], mask, 0.85)
    # 77 x 60 loses a row and a column, is centred in 76, then in 89.
    assert np.array_equal(alpha[6 : 6 + 76, 6 + 8 : 6 + 8 + 59, 0], mask[:76, :59])
    assert alpha.sum() == mask[:76, :59].sum()


def run(data: bytes, **params: object) -> tuple[np.ndarray, np.ndarray]:
    stage = Preprocess(PreprocessParams.model_validate({"framing": "reference", **params}))
    outputs = stage.run({"input_image": data}, Context())
    for spec in stage.outputs:
        if spec.name in outputs:
            spec.check(outputs[spec.name])
    return outputs["image"], outputs["alpha"][..., 0]


def test_the_stage_keeps_the_pictures_own_framing() -> None:
    picture = on_white(disc(160, 0.3, cx=-0.5))
    image, alpha = run(file_of(picture))
    side = int(159 / 0.85)
    assert image.shape == (side, side, 3)
    columns = np.flatnonzero((alpha > 127).any(axis=0))
    # The disc's middle is at a quarter of the picture and stays there.
    assert abs(columns.mean() - (0.25 * 160 + (side - 159) // 2)) < 2


def test_the_stage_takes_a_mask_from_alpha() -> None:
    alpha_in = ring(120)
    image, alpha = run(file_of(cutout(alpha_in)))
    assert image.shape == (140, 140, 3)
    assert np.abs(alpha[10:129, 10:129] / 255 - alpha_in[:119, :119]).max() < 0.01
    assert (image[70, 70] == 255).all()


def test_nothing_in_the_foreground_is_bad_input() -> None:
    with pytest.raises(BadInput, match="foreground"):
        run(file_of(on_white(np.zeros((64, 64)))))
