"""The caption stage: equal to plain transformers, and doing without the model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from devtools.tiny.text import build_florence
from stages.caption.stage import Caption, CaptionParams
from stages.contract import Context, StageError
from stages.process.stage_runner import StageRunner

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    build_florence(folder)
    return folder


@pytest.fixture(autouse=True)
def own_models(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KISS3D_MODELS", str(models))


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (90, 90, 3), np.uint8)


def caption_of(image: np.ndarray, dtype: str = "float32", **params: int) -> str:
    stage = Caption(CaptionParams.model_validate({"max_new_tokens": 24, **params}))
    context = Context(dtype=dtype, threads=1)
    stage.load(context)
    outputs = stage.run({"image": image}, context)
    for spec in stage.outputs:
        spec.check(outputs[spec.name])
    caption: str = outputs["caption"]
    return caption


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_the_caption_is_that_of_plain_transformers(
    models: Path, num_beams: int, dtype: str
) -> None:
    from transformers import Florence2ForConditionalGeneration, Florence2Processor

    folder = models / "florence-2-large"
    processor = Florence2Processor.from_pretrained(folder)
    wanted = getattr(torch, dtype)
    model = Florence2ForConditionalGeneration.from_pretrained(folder, dtype=wanted).eval()
    task = "<MORE_DETAILED_CAPTION>"
    image = Image.fromarray(picture())
    inputs = processor(text=task, images=image, return_tensors="pt").to("cpu", wanted)
    ids = model.generate(**inputs, num_beams=num_beams, max_new_tokens=24, do_sample=False)
    text = processor.batch_decode(ids, skip_special_tokens=False)[0]
    expected = processor.post_process_generation(text, task=task, image_size=image.size)[task]
    found = caption_of(picture(), dtype, num_beams=num_beams)
    assert found == " ".join(expected.split())
    assert found


def test_a_caption_is_one_line_and_the_same_every_time() -> None:
    first = caption_of(picture())
    assert first == " ".join(first.split())
    assert "</s>" not in first
    assert first == caption_of(picture())


def test_many_jobs_share_one_load_and_hear_of_every_token(tmp_path: Path) -> None:
    core = StageRunner("caption", inline_max_bytes=1 << 20)
    core.load({"max_new_tokens": 8}, Context(threads=1))
    np.save(tmp_path / "image.npy", picture())
    for _ in range(2):
        steps: list[tuple[int, int]] = []
        result = core.run(
            {"image": [tmp_path / "image.npy"]},
            tmp_path,
            tmp_path,
            42,
            lambda step, total, note="", steps=steps: steps.append((step, total)),
        )
        (file,) = result.outputs["caption"]
        assert file.content
        assert [step for step, _ in steps[:3]] == [1, 2, 3]
        assert all(step < total for step, total in steps[:-1])
        assert steps[-1] == (1, 1)
    core.close()


def test_a_given_caption_needs_no_weights_and_no_model(tmp_path: Path) -> None:
    params = CaptionParams(text="  a red\n vase ")
    assert Caption.weights(params) == ()
    assert Caption.weights(CaptionParams()) == ("florence-2-large",)
    code = (
        "import sys\n"
        "from stages.caption.stage import Caption, CaptionParams\n"
        "from stages.contract import Context\n"
        "stage = Caption(CaptionParams(text='  a red\\n vase '))\n"
        "stage.load(Context())\n"
        "assert stage.run({'image': None}, Context()) == {'caption': 'a red vase'}\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def test_words_that_come_with_a_picture_are_its_caption_and_load_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[object] = []
    monkeypatch.setattr(
        "stages.caption.florence.Florence.__init__", lambda self, *_: loaded.append(self)
    )
    monkeypatch.setattr("stages.caption.florence.Florence.describe", lambda *_: "a picture")
    stage = Caption(CaptionParams(text="of the whole batch"))
    stage.load(Context())
    words = {"image": picture(), "input_text": " a blue\n vase "}
    assert stage.run(words, Context()) == {"caption": "a blue vase"}
    assert stage.run({"image": picture()}, Context()) == {"caption": "of the whole batch"}
    without = Caption(CaptionParams())
    assert without.run(words, Context()) == {"caption": "a blue vase"}
    assert loaded == []
    assert without.run({**words, "input_text": " "}, Context()) == {"caption": "a picture"}
    assert len(loaded) == 1


def test_an_empty_caption_is_an_error_that_names_the_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stages.caption.florence.Florence.describe", lambda *_: "")
    with pytest.raises(StageError, match="nothing to say") as caught:
        caption_of(picture())
    assert "--caption" in caught.value.hint


def test_missing_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KISS3D_MODELS", str(tmp_path))
    monkeypatch.setattr(
        "stages.weights.catalogue.hub_snapshot", lambda model: tmp_path / "no-cache"
    )
    with pytest.raises(StageError, match="florence-2-large") as caught:
        caption_of(picture())
    assert caught.value.kind == "missing_weights"


def test_every_param_is_described() -> None:
    assert all(field.description for field in CaptionParams.model_fields.values())
