"""Stage "preprocess": the picture as the user gave it -> the object on a white square."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from stages import contract
from stages.common.specs import ALPHA, IMAGE, INPUT_IMAGE
from stages.weights import locate

if TYPE_CHECKING:
    from stages.common.matting_onnx import OnnxMatting

NETWORK = "isnet-general-use"
"""Catalogue name of rembg's network."""


class PreprocessParams(contract.Params):
    """Settings of `Preprocess`."""

    background: Literal["auto", "alpha", "rembg", "grabcut", "none"] = Field(
        "auto",
        description="how the object is told from its background: auto takes a meaningful alpha "
        "channel, else rembg where its weights are on this machine, else grabcut; alpha insists "
        "on the channel; rembg asks the network isnet-general-use; grabcut segments without one; "
        "none takes the whole picture as the object",
    )
    framing: Literal["centered", "reference"] = Field(
        "centered",
        description="centered puts the object in the middle at foreground_ratio; reference "
        "reproduces the reference's framing, which keeps the picture's own",
    )
    foreground_ratio: float = Field(
        0.85, ge=0.3, le=1.0, description="longest side of the object, of the square's side"
    )
    size: int = Field(
        1024,
        ge=64,
        le=4096,
        description="largest side of the square in pixels (framing=centered); the object keeps "
        "its own resolution below it, down to a square of 512",
    )
    defringe: bool = Field(
        True, description="take the old background's colour out of the object's rim"
    )
    alpha_threshold: int = Field(
        12, ge=0, le=254, description="alpha above this belongs to the object (0..255)"
    )
    max_pixels: int = Field(
        8192 * 8192,
        ge=256,
        le=89_478_485,  # beyond it Pillow itself warns of a decompression bomb
        description="largest picture, width x height; checked before decoding",
    )
    max_bytes: int = Field(
        256 << 20, ge=1024, le=1 << 30, description="largest input file in bytes"
    )


class Preprocess(contract.Stage):
    """Decode, cut out, defringe, re-centre, on the CPU.

    Raises `BadInput` for whatever is wrong with the picture, and `StageError` of kind
    missing_weights when background=rembg and the network is not on this machine.
    """

    name = "preprocess"
    version = 2
    summary = "cut the object out of the input picture and centre it on a white square"
    inputs = (INPUT_IMAGE,)
    outputs = (IMAGE, ALPHA)
    Params: ClassVar[type[contract.Params]] = PreprocessParams
    preload = ("numpy", "PIL.Image", "PIL.ImageCms", "PIL.ImageOps", "cv2")

    params: PreprocessParams

    def __init__(self, params: PreprocessParams) -> None:
        super().__init__(params)
        self._matting: OnnxMatting | None = None

    @classmethod
    def weights(cls, params: PreprocessParams) -> tuple[str, ...]:
        """None for background=auto, which does without the network where it is missing."""
        return (NETWORK,) if params.background == "rembg" else ()

    @classmethod
    def optional_weights(cls, params: PreprocessParams) -> tuple[str, ...]:
        return (NETWORK,) if params.background == "auto" else ()

    @classmethod
    def uses_seed(cls, params: PreprocessParams) -> bool:
        return False

    def load(self, context: contract.Context) -> None:
        if self.params.background == "rembg":
            self._network(context)

    def run(self, inputs: Mapping[str, Any], context: contract.Context) -> Mapping[str, Any]:
        """Input `input_image` (bytes); outputs `image` (S, S, 3) and `alpha` (S, S, 1), uint8."""
        import cv2

        from stages.preprocess.cutout import Cutout, choose_background
        from stages.preprocess.decode import decode
        from stages.preprocess.reference import flatten_on_grey

        cv2.setNumThreads(context.threads)
        params = self.params
        context.progress(0, 2, "decode")
        picture = decode(
            inputs[INPUT_IMAGE.name], max_bytes=params.max_bytes, max_pixels=params.max_pixels
        )
        has_network = params.background == "auto" and locate(NETWORK) is not None
        background = choose_background(
            picture.rgba, params.background, params.alpha_threshold, has_network
        )
        frames = f", first of {picture.frames} frames" if picture.frames > 1 else ""
        context.progress(1, 2, f"cut out ({background}{frames})")
        mask = None
        if background == "rembg":
            mask = self._network(context).mask(flatten_on_grey(picture.rgba))
        cutout = Cutout(
            picture.rgba,
            background,
            params.alpha_threshold,
            params.foreground_ratio,
            mask,
        )
        if params.framing == "reference":
            image, alpha = cutout.as_reference()
        else:
            image, alpha = cutout.centered(params.size, params.defringe)
        context.progress(2, 2)
        return {IMAGE.name: image, ALPHA.name: alpha}

    def _network(self, context: contract.Context) -> OnnxMatting:
        """The network, read once in a process's lifetime."""
        if self._matting is None:
            from stages.common.matting_onnx import load_matting

            self._matting = load_matting(NETWORK, context.threads)
        return self._matting
