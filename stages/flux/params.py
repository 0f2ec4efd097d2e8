"""Settings of the flux stage. Defaults are the reference's (docs/reference.md, "Flux")."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from stages import contract
from stages.models.kernels import BackendParams
from stages.models.lora_params import LoraParams

Mode = Literal["canny", "tile", "depth", "blur", "pose", "gray", "lq"]

PATCH = 16
"""Pixels a side of what one token stands for: VAE factor 8, patches of 2 x 2 latents."""


class ControlParams(contract.Params):
    """One control image for ControlNet-Union."""

    mode: Mode = Field(
        "tile",
        description="what the control image shows; depth and pose need the input control_depth or "
        "control_pose, the others are made from the reference bundle",
    )
    scale: float = Field(0.6, ge=0, le=2, description="factor of the net's residuals")
    start: float = Field(0.0, ge=0, le=1, description="share of the evaluations before it acts")
    end: float = Field(0.65, ge=0, le=1, description="share of the evaluations after which it ends")
    down_scale: int | None = Field(
        None, ge=1, le=64, description="tile, lq: shrink and enlarge by this; default: tile 1, lq 4"
    )
    kernel_size: int = Field(51, ge=1, le=501, description="blur: pixels, odd")
    sigma: float = Field(2.0, gt=0, le=100, description="blur: pixels")
    low: int = Field(100, ge=0, le=255, description="canny: gradient below which is no edge")
    high: int = Field(200, ge=0, le=255, description="canny: gradient from which on an edge starts")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.end <= self.start:
            raise ValueError(f"end ({self.end:g}) has to be greater than start ({self.start:g})")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size has to be odd, not {self.kernel_size}")
        return self


class FluxParams(BackendParams, LoraParams):
    """Settings of `Flux`."""

    width: int = Field(2048, ge=2 * PATCH, le=8192, description="pixels: twice the height")
    height: int = Field(1024, ge=PATCH, le=4096, description="pixels: a multiple of 16")
    steps: int = Field(20, ge=1, le=200, description="steps at strength 1")
    sampler: Literal["heun", "heun_pec"] = Field(
        "heun",
        description="heun: two evaluations a step, as the reference; heun_pec: one, since a step "
        "begins with the slope that the step before ended with (not the reference's result)",
    )
    guidance_scale: float = Field(3.5, ge=0, le=30, description="guidance that FLUX.1-dev embeds")
    strength: float = Field(
        0.95,
        gt=0,
        le=1,
        description="how much of the reference bundle is replaced by noise; 1 ignores it, and so "
        "does a run without a reference bundle",
    )
    controlnet: tuple[ControlParams, ...] = Field(
        (ControlParams(),), description="control images, added up; empty: plain img2img"
    )
    lora_merge: bool = Field(
        False,
        description="add LoRAs to the weights while loading: no cost a step, rounded to the "
        "storage; not with GGUF weights; placement streamed always does",
    )
    noise: Literal["cpu", "device"] = Field(
        "cpu",
        description="cpu: the same noise on every machine; device: drawn on the card in the "
        "model's dtype, as the reference does",
    )
    placement: Literal["resident", "model", "streamed"] = Field(
        "resident",
        description="resident: all on the device; model: the VAE and the two nets take turns; "
        "streamed: blocks as the budgets of device and host memory allow, the others from the "
        "files; .safetensors only",
    )
    storage: Literal["full", "file", "fp8"] = Field(
        "full",
        description="how the nets' blocks are kept: full in the attempt's dtype; file in float8 as "
        "far as the file has them so (same result); fp8 rounded (lossy)",
    )
    compute: Literal["bf16", "w8a8", "int8", "fp8", "auto"] = Field(
        "bf16",
        description="how the blocks' linear layers multiply: bf16 in the attempt's dtype; w8a8 "
        "weights and activations in eight bits (lossy, half the memory), as int8 or fp8, whichever "
        "is faster on the card; auto w8a8 where that is faster than bf16. Merges LoRAs, and "
        "storage then says nothing",
    )
    compile: Literal["off", "blocks", "auto"] = Field(
        "off",
        description="run the nets' blocks by code that is compiled for them, which rounds "
        "otherwise: blocks from each job's second evaluation on; auto as soon as that saves more "
        "time on the evaluations to come than it takes. What cannot be compiled runs as ever, and "
        "the result says why",
    )
    cache: float = Field(
        0.0,
        ge=0,
        le=1,
        description="skip evaluations in which the nets' first blocks change by less than this "
        "share of what they do, and take the rest from an earlier one (lossy); 0: none",
    )
    vae_tiling: bool = Field(
        False, description="decode in tiles that overlap: less memory, not the same pixels"
    )
    transformer: str = Field(
        "flux1-dev-fp8",
        description="flux1-dev-transformer, -fp8, -gguf-q8, -gguf-q4, or a path of one's own",
    )
    vae: str = Field("flux1-dev-vae", description="weights of the autoencoder")
    controlnet_weights: str = Field(
        "flux1-controlnet-union", description="weights of the ControlNet"
    )

    @field_validator("vae_tiling", mode="before")
    @classmethod
    def _of_older_runs(cls, value: object) -> object:
        """Runs that were made before tiles were a rung of their own have recorded "auto"."""
        return False if value == "auto" else value

    @field_validator("compile", mode="before")
    @classmethod
    def _as_yaml_has_it(cls, value: object) -> object:
        """In YAML a bare off is false, and a bare on is true."""
        return {False: "off", True: "blocks"}[value] if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.width != 2 * self.height:
            raise ValueError(f"a bundle is twice as wide as high, not {self.width} x {self.height}")
        if self.height % PATCH:
            raise ValueError(f"height has to be a multiple of {PATCH}, not {self.height}")
        if self.is_gguf:
            self._check_gguf()
        return self

    def _check_gguf(self) -> None:
        """Here, so that it is known before anything runs."""
        if self.placement == "streamed":
            raise ValueError(
                f"GGUF weights ({self.transformer}) cannot be streamed: give flux attempts with "
                "placement model or resident"
            )
        if self.compute not in ("bf16", "auto"):
            raise ValueError(
                f"GGUF weights ({self.transformer}) cannot be multiplied in eight bits: set "
                "compute to bf16"
            )
        if self.used_loras and self.lora_merge:
            raise ValueError(
                f"a LoRA cannot be merged into GGUF weights ({self.transformer}): set lora_merge "
                "to false"
            )

    @property
    def is_gguf(self) -> bool:
        """Whether the transformer's file is in GGUF, by its name."""
        return "gguf" in self.transformer.lower()

    @property
    def active_controls(self) -> tuple[ControlParams, ...]:
        """Those that change anything."""
        return tuple(control for control in self.controlnet if control.scale > 0)
