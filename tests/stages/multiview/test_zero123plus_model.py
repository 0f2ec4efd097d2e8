"""Zero123++'s parts, against the reference's numbers and against their formulas."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, EulerAncestralDiscreteScheduler, UNet2DConditionModel
from PIL import Image

from devtools.tiny.zero123plus import (
    PUBLISHED,
    SCHEDULER,
    TINY,
    build_zero123plus,
    meta_networks,
    random_state,
)
from stages.contract import StageError
from stages.models.pixels import PixelExtractor
from stages.multiview.zero123plus import latents, sampler
from stages.multiview.zero123plus.conditioning import Condition, condition_latents, text_tokens
from stages.multiview.zero123plus.grid import views_of
from stages.multiview.zero123plus.noise import ViewNoise, normal
from stages.multiview.zero123plus.reference_attention import (
    ReferenceAttention,
    ReferenceTokens,
    ReferenceUNet,
)
from stages.multiview.zero123plus.sampler import denoise, require_finite
from stages.multiview.zero123plus.text import empty_prompt_ids

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


@pytest.fixture(scope="module")
def attention() -> dict[str, Any]:
    """The reference's wrapped UNet: its weights, inputs and output."""
    with np.load(GOLDEN / "zero123_refattn.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def schedule() -> dict[str, torch.Tensor]:
    with np.load(GOLDEN / "zero123_scheduler.npz") as file:
        return {name: torch.tensor(file[name]) for name in file.files}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_zero123plus(tmp_path_factory.mktemp("models"))


def reference_unet(golden: dict[str, Any]) -> ReferenceUNet:
    unet = UNet2DConditionModel(**json.loads(golden["config_json"].item())).eval()
    weights = {
        name.removeprefix("sd."): torch.tensor(value)
        for name, value in golden.items()
        if name.startswith("sd.")
    }
    unet.load_state_dict(weights, strict=True)
    return ReferenceUNet(unet)


def predict(unet: ReferenceUNet, golden: dict[str, Any], shift: float = 0.0) -> np.ndarray:
    """The golden call, the condition's latent moved by `shift`."""
    sigma = float(golden["sigma"])
    noised = golden["cond_latents"] + shift + sigma * golden["cond_noise"]
    with torch.no_grad():
        return unet(
            torch.tensor(golden["latent_input_scaled"]),
            torch.tensor(golden["timestep"]),
            torch.tensor(golden["text_embeds"]),
            torch.tensor(noised / np.sqrt(sigma**2 + 1.0), dtype=torch.float32),
        ).numpy()


# --- reference attention --------------------------------------------------------------------------


def test_the_unet_with_reference_attention_equals_the_reference(attention):
    output = predict(reference_unet(attention), attention)
    np.testing.assert_allclose(output, attention["output"], atol=1e-4)
    assert np.abs(output - attention["output_without_reference"]).max() > 0.01


def test_another_reference_gives_another_output_and_calls_do_not_mix(attention):
    unet = reference_unet(attention)
    first = predict(unet, attention)
    other = predict(unet, attention, shift=20.0)
    assert np.abs(first - other).max() > 1e-3
    np.testing.assert_array_equal(predict(unet, attention), first)


def test_a_layer_that_reads_without_having_written_is_an_error():
    reference = ReferenceTokens()
    tokens = torch.ones(1, 2, 3)
    assert reference.keys_and_values("layer", tokens) is tokens
    reference.read()
    assert reference.keys_and_values("layer", tokens).shape == (1, 4, 3)
    with pytest.raises(KeyError):
        reference.keys_and_values("layer", tokens)


def test_the_published_sizes_have_the_published_numbers_of_weights():
    """UNet, VAE, text and vision encoder; 16 self-attention layers in the UNet."""
    networks = meta_networks(PUBLISHED)
    counts = [sum(weight.numel() for weight in network.parameters()) for network in networks]
    assert counts == [865_910_724, 83_653_863, 340_387_840, 632_076_800]
    unet = ReferenceUNet(networks[0]).unet
    processors = unet.attn_processors.values()
    assert sum(isinstance(processor, ReferenceAttention) for processor in processors) == 16
    assert len(processors) == 32


# --- scale functions, tiles -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unscale_latents", "unscale_image"])
def test_scale_functions_are_the_references(schedule, name):
    torch.testing.assert_close(getattr(latents, name)(schedule["scale_in"]), schedule[name])


def test_the_last_tile_of_the_grid_is_the_front_and_the_first_is_the_left():
    grid = np.zeros((1024, 1024, 3), np.uint8)
    grid[:512, :512], grid[:512, 512:], grid[512:, :512], grid[512:, 512:] = 10, 20, 30, 40
    grid[512, 512] = 99  # top left corner of the front view
    views = views_of(grid)
    assert [int(view[-1, -1, 0]) for view in views] == [40, 10, 20, 30]
    assert int(views[0, 0, 0, 0]) == 99


def test_views_of_another_size_are_resized_to_512():
    grid = np.repeat(np.repeat(np.arange(4, dtype=np.uint8).reshape(2, 2), 64, 0), 64, 1) * 60
    views = views_of(np.repeat(grid[..., None], 3, axis=-1))
    assert views.shape == (4, 512, 512, 3)
    assert [int(view.mean()) for view in views] == [180, 0, 60, 120]


def small_vae() -> AutoencoderKL:
    vae = AutoencoderKL(**TINY.vae).eval()
    vae.load_state_dict(random_state(vae, torch.float32, 3))
    return vae


def test_decoding_undoes_both_scalings():
    vae = small_vae()
    z = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        raw = vae.decode((z / 0.75 + 0.22) / 0.18215).sample
    expected = 1.6 * raw / 2.0 + 0.5
    torch.testing.assert_close(latents.decode(vae, z, tiling=False), expected)


def test_decoding_in_tiles_is_close_but_not_the_same(monkeypatch):
    monkeypatch.setattr(latents, "TILE", 32)
    vae = small_vae()
    z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    plain = latents.decode(vae, z, tiling=False)
    tiled = latents.decode(vae, z, tiling=True)
    assert tiled.shape == plain.shape == (1, 3, 64, 64)
    # 0.48 of it, as these tiles are mostly seam; pictures that have nothing in common: 1.1.
    assert 0.0 < float((tiled - plain).abs().mean()) < 0.75 * float(plain.std())
    torch.testing.assert_close(latents.decode(vae, z, tiling=False), plain)


def test_pixels_are_clipped_and_rounded():
    values = torch.tensor([-0.2, 0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 7.0])
    row = latents.to_uint8(values.expand(1, 3, 1, 6))
    assert row[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]


# --- what the picture is turned into --------------------------------------------------------------


def test_the_ramp_adds_the_image_embedding_token_by_token(attention):
    empty, image = torch.tensor(attention["ramp_h0"]), torch.tensor(attention["ramp_global"])
    ramp = torch.tensor(attention["ramp"])[:, None]
    tokens = text_tokens(empty, ramp, image[:, 0], guided=True)
    np.testing.assert_allclose(tokens[1:].numpy(), attention["ramp_out"], atol=1e-6)
    assert torch.equal(tokens[:1], empty)


def test_a_zero_ramp_leaves_the_prompt_as_it_is(attention):
    empty, image = torch.tensor(attention["ramp_h0"]), torch.tensor(attention["ramp_global"])
    tokens = text_tokens(empty, torch.zeros(7, 1), image[:, 0], guided=True)
    assert torch.equal(tokens, torch.cat([empty, empty]))


@pytest.mark.parametrize("kind", ["clip", "vae"])
def test_pixels_equal_those_of_the_image_processor(base, kind):
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    folder = base / f"feature_extractor_{kind}"
    image = np.random.default_rng(1).integers(0, 256, (90, 90, 3), dtype=np.uint8)
    expected = CLIPImageProcessorPil.from_pretrained(folder)(
        Image.fromarray(image), return_tensors="np"
    )["pixel_values"]
    extractor = PixelExtractor.load(folder)
    np.testing.assert_allclose(extractor(image).numpy(), expected, atol=1e-5)


def test_white_is_the_end_of_the_range_that_the_vae_works_in(base):
    extractor = PixelExtractor.load(base / "feature_extractor_vae")
    white = extractor(np.full((70, 70, 3), 255, np.uint8))
    assert white.shape == (1, 3, 64, 64)
    torch.testing.assert_close(white, torch.full_like(white, 0.625))


def test_an_extractor_that_would_crop_is_refused(tmp_path):
    config = {"size": {"shortest_edge": 256}, "crop_size": 224}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="resizes to 256 and crops to 224"):
        PixelExtractor.load(tmp_path)


@pytest.mark.parametrize("side", [48, {"shortest_edge": 48}, {"height": 48, "width": 48}])
@pytest.mark.parametrize("crop", [None, 48, {"height": 48, "width": 48}])
@pytest.mark.parametrize("mean", [0.25, [0.25, 0.25, 0.25]])
def test_an_extractors_numbers_are_read_in_every_form(tmp_path, side, crop, mean):
    config = {"size": side, "image_mean": mean, "image_std": 0.5, "resample": 2}
    config |= {} if crop is None else {"crop_size": crop}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    white = PixelExtractor.load(tmp_path)(np.full((70, 70, 3), 255, np.uint8))
    torch.testing.assert_close(white, torch.full((1, 3, 48, 48), 1.5))


@pytest.mark.parametrize(
    "change",
    [{"image_mean": [0.5]}, {"image_std": [1.0, 1.0]}, {"size": {"height": 8, "width": 9}}],
)
def test_an_extractor_that_does_not_fit_pictures_is_refused(tmp_path, change):
    config = {"size": 8, "image_mean": 0.5, "image_std": 0.5, "resample": 2, **change}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"preprocessor_config.json: expected"):
        PixelExtractor.load(tmp_path)


def test_the_empty_prompt_is_padded_with_the_special_token_maps_padding(base):
    from transformers import CLIPTokenizer

    ids = empty_prompt_ids(base / "tokenizer", 7)
    assert ids == [6, 7, 0, 0, 0, 0, 0]
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer", pad_token="!")
    assert tokenizer("", padding="max_length", max_length=7)["input_ids"] == ids


def test_the_condition_is_the_vaes_raw_sample_and_its_negative_is_that_of_zero():
    vae = small_vae()
    pixels = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    sampled = condition_latents(vae, pixels, ViewNoise.from_seed(5), guided=True)
    draws = ViewNoise.from_seed(5).conditioning
    with torch.no_grad():
        picture = vae.encode(pixels).latent_dist
        zero = vae.encode(torch.zeros_like(pixels)).latent_dist
    conditional = picture.mean + picture.std * normal((1, 4, 4, 4), draws)
    negative = zero.mean + zero.std * normal((1, 4, 4, 4), draws)
    torch.testing.assert_close(sampled, torch.cat([negative, conditional]))
    alone = condition_latents(vae, pixels, ViewNoise.from_seed(5), guided=False)
    torch.testing.assert_close(alone, conditional)


# --- sampling -------------------------------------------------------------------------------------


class ToyUNet:
    """Records what it is given; predicts tanh(x), mixed over the channels by `mix` of each row."""

    device, dtype, channels = torch.device("cpu"), torch.float32, 4

    def __init__(self, *mixes: torch.Tensor) -> None:
        self.mixes = mixes
        self.latents: list[torch.Tensor] = []
        self.references: list[torch.Tensor] = []

    def __call__(
        self, x: torch.Tensor, timestep: Any, text: torch.Tensor, reference: torch.Tensor
    ) -> torch.Tensor:
        self.latents.append(x)
        self.references.append(reference)
        return torch.stack(
            [
                torch.einsum("oc,chw->ohw", mix, torch.tanh(row))
                for mix, row in zip(self.mixes, x, strict=True)
            ]
        )


def scheduler_of(steps: int) -> EulerAncestralDiscreteScheduler:
    scheduler = EulerAncestralDiscreteScheduler.from_config(SCHEDULER, timestep_spacing="trailing")
    scheduler.set_timesteps(steps)
    return scheduler


def sample(unet: ToyUNet, steps: int, guidance: float, noise: ViewNoise) -> torch.Tensor:
    rows = len(unet.mixes)
    condition = Condition(torch.zeros(rows, 2, 3), torch.full((rows, 4, 5, 5), 0.5))
    return denoise(unet, scheduler_of(steps), condition, 8, guidance, noise, lambda step: None)  # type: ignore[arg-type]


def test_the_schedule_equals_the_references(schedule):
    scheduler = scheduler_of(50)
    assert torch.equal(scheduler.timesteps, schedule["timesteps_50"])
    torch.testing.assert_close(scheduler.sigmas, schedule["sigmas_50"], atol=1e-5, rtol=0)
    assert float(scheduler.init_noise_sigma) == float(schedule["init_noise_sigma"])


def test_the_loop_walks_the_references_trajectory(schedule, monkeypatch):
    """Seen through the UNet's inputs, which are the latents over sqrt(sigma^2 + 1)."""
    start = schedule["x0"] / schedule["init_noise_sigma"]
    monkeypatch.setattr(
        sampler,
        "normal",
        lambda shape, generator: start if shape == start.shape else normal(shape, generator),
    )
    unet = ToyUNet(schedule["toy_W"])
    seed = int(schedule["step_noise_seed"])
    sample(unet, 50, 1.0, ViewNoise(torch.Generator().manual_seed(seed), torch.Generator()))
    for step, expected in enumerate(schedule["trajectory_6"], start=1):
        scale = torch.sqrt(schedule["sigmas_50"][step] ** 2 + 1.0)
        torch.testing.assert_close(unet.latents[step] * scale, expected, atol=1e-4, rtol=0)


def test_guidance_goes_from_the_unconditional_row_through_the_conditional_one():
    negative, positive = torch.eye(4) * 0.3, torch.eye(4) * -0.7
    guided = ToyUNet(negative, positive)
    result = sample(guided, 3, 4.0, ViewNoise.from_seed(1))
    assert torch.equal(guided.latents[0][0], guided.latents[0][1])
    alone = sample(ToyUNet(negative + 4.0 * (positive - negative)), 3, 1.0, ViewNoise.from_seed(1))
    torch.testing.assert_close(result, alone)


def test_the_reference_is_noised_to_the_steps_level_anew_in_every_step_and_row():
    unet = ToyUNet(torch.eye(4), torch.eye(4))
    sample(unet, 5, 2.0, ViewNoise.from_seed(3))
    sigmas = scheduler_of(5).sigmas[:5]
    draws = [
        (reference * torch.sqrt(sigma**2 + 1.0) - 0.5) / sigma
        for reference, sigma in zip(unet.references, sigmas, strict=True)
    ]
    rows = torch.cat(draws).reshape(10, -1)
    assert rows.mean().abs() < 0.1
    assert rows.std() == pytest.approx(1.0, abs=0.1)
    correlation = torch.corrcoef(rows) - torch.eye(10)
    assert correlation.abs().max() < 0.5


def test_both_streams_follow_from_the_seed_and_differ():
    def first(noise: ViewNoise) -> tuple[float, float]:
        return float(normal((1,), noise.sampling)), float(normal((1,), noise.conditioning))

    assert first(ViewNoise.from_seed(0)) == first(ViewNoise.from_seed(0))
    values = {
        *first(ViewNoise.from_seed(0)),
        *first(ViewNoise.from_seed(42)),
        *first(ViewNoise.from_seed(1)),
    }
    assert len(values) == 6


def test_numbers_that_are_not_finite_end_the_loop_with_advice():
    unet = ToyUNet(torch.full((4, 4), float("nan")))
    with pytest.raises(StageError, match=r"after step 1 of 3 \(float32\)") as caught:
        sample(unet, 3, 1.0, ViewNoise.from_seed(1))
    assert caught.value.kind == "internal"
    assert len(unet.latents) == 1
    with pytest.raises(StageError) as caught:
        require_finite(torch.tensor([float("inf")]), "in the VAE", torch.float16)
    assert "bfloat16" in caught.value.hint
