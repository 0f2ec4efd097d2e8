"""Stage "preprocess": the picture as the user gave it -> the object on a white square."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from stages import contract
from stages.contract.artifacts import (
    ALPHA,
    GIVEN_VIEWS,
    IMAGE,
    INPUT_BACK,
    INPUT_IMAGE,
    INPUT_LEFT,
    INPUT_MASK,
    INPUT_RIGHT,
)
from stages.models.sketch_net import WEIGHTS
from stages.preprocess.params import PreprocessParams, colour_of
from stages.weights.catalogue import locate

if TYPE_CHECKING:
    import numpy as np

    from stages.models.matting import OnnxMatting
    from stages.preprocess.alike import Framed, Side
    from stages.preprocess.cutout import Cutout
    from stages.preprocess.guessing import Guessing

NETWORK = "isnet-general-use"
"""Catalogue name of rembg's network."""

PICTURES = (INPUT_IMAGE, INPUT_BACK, INPUT_LEFT, INPUT_RIGHT)
SIDE_OF: dict[str, Side] = {
    INPUT_BACK.name: "back",
    INPUT_LEFT.name: "left",
    INPUT_RIGHT.name: "right",
}
"""What the pictures beside the front show."""

SIDES = tuple(SIDE_OF.values())


class Preprocess(contract.Stage):
    """Decode, cut out, defringe, re-centre, on the CPU.

    Raises `BadInput` for whatever is wrong with the picture, and `StageError` of kind
    missing_weights when background=rembg and its network is not on this machine, or
    background=network and the installation lacks that.
    """

    name = "preprocess"
    version = 8
    summary = "cut the object out of the input picture and centre it on a white square"
    inputs = (INPUT_IMAGE, INPUT_MASK, INPUT_BACK, INPUT_LEFT, INPUT_RIGHT)
    outputs = (IMAGE, ALPHA, GIVEN_VIEWS)
    Params: ClassVar[type[contract.Params]] = PreprocessParams
    preload = ("numpy", "PIL.Image", "PIL.ImageCms", "PIL.ImageOps", "cv2")

    params: PreprocessParams

    def __init__(self, params: PreprocessParams) -> None:
        super().__init__(params)
        self._matting: OnnxMatting | None = None
        self._guessing: Guessing | None = None

    @classmethod
    def weights(cls, params: PreprocessParams) -> tuple[str, ...]:
        """None for background=auto, which does without the network where it is missing."""
        return (NETWORK,) if params.background == "rembg" else ()

    @classmethod
    def optional_weights(cls, params: PreprocessParams) -> tuple[str, ...]:
        shipped = str(WEIGHTS)
        return {"auto": (NETWORK, shipped), "network": (shipped,)}.get(params.background, ())

    @classmethod
    def uses_seed(cls, params: PreprocessParams) -> bool:
        return False

    def load(self, context: contract.Context) -> None:
        if self.params.background == "rembg":
            self._network(context)
        if self.params.background == "network":
            self._guesses().network()

    def run(self, inputs: Mapping[str, Any], context: contract.Context) -> Mapping[str, Any]:
        """Inputs `input_image` and perhaps `input_mask`, `input_back`, `input_left`, `input_right`
        (bytes); outputs `image` (S, S, 3) and `alpha` (S, S, 1), uint8, and with one of the last
        three `given_views` (3, S, S, 4)."""
        import cv2

        from stages.preprocess.sides import join_sides

        cv2.setNumThreads(context.threads)
        files = {spec.name: inputs[spec.name] for spec in PICTURES if spec.name in inputs}
        total = 2 * len(files)
        params = self.params
        front = self._framed(
            files.pop(INPUT_IMAGE.name), inputs.get(INPUT_MASK.name), context, (0, total)
        )
        sides: dict[Side, Framed] = {}
        for name, side in SIDE_OF.items():
            if name in files:
                at = (2 + 2 * len(sides), total)
                sides[side] = self._side(side, files[name], context, at)
        made = {}
        if sides:
            keep = params.framing == "reference"
            front, made[GIVEN_VIEWS.name] = join_sides(
                front, sides, params.sides, params.foreground_ratio, params.size, keep, context.warn
            )
            for text in self._same_files(inputs):
                context.warn(text)
        context.progress(total, total)
        return {IMAGE.name: front.image, ALPHA.name: front.alpha, **made}

    def _same_files(self, inputs: Mapping[str, Any]) -> Iterator[str]:
        """A text for each file that was given for several sides."""
        names: dict[bytes, list[str]] = {}
        for spec in PICTURES:
            if spec.name in inputs:
                side = SIDE_OF.get(spec.name)
                name = "the front" if side is None else self._called(side)
                names.setdefault(bytes(inputs[spec.name]), []).append(name)
        for same in names.values():
            if len(same) > 1:
                yield (
                    f"one and the same picture was given for {', '.join(same[:-1])} and "
                    f"{same[-1]}: only an object that looks alike from all these sides is like that"
                )

    def _called(self, side: Side) -> str:
        """What a user calls a picture beside the front: what it shows is not said with `auto`."""
        return f"picture {2 + SIDES.index(side)}" if self.params.sides == "auto" else f"the {side}"

    def _side(
        self, side: Side, data: bytes, context: contract.Context, at: tuple[int, int]
    ) -> Framed:
        """As `_framed`, of a picture beside the front; what is wrong with it names it."""
        named = self.params.sides == "named"
        what = f"the picture of the {side}" if named else self._called(side)
        option = f"--{side} ({what}, not of the front)" if named else f"{what}, not the front"

        def warn(text: str, *, degraded: bool = False) -> None:
            context.warn(f"{what}: {text}", degraded=degraded)

        try:
            return self._framed(data, None, replace(context, warn=warn), at)
        except contract.BadInput as error:
            raise contract.BadInput(f"{option}: {error.message}", error.hint) from error

    def _framed(
        self,
        data: bytes,
        mask: bytes | None,
        context: contract.Context,
        at: tuple[int, int],
    ) -> Framed:
        """One picture cut out and on a canvas of its own. at: steps of all that are done, of how
        many."""
        from stages.preprocess.alike import Framed
        from stages.preprocess.decode import decode

        params = self.params
        done, total = at
        context.progress(done, total, "decode")
        picture = decode(data, max_bytes=params.max_bytes, max_pixels=params.max_pixels)
        note = f", {picture.note}" if picture.note else ""

        def tell(way: str) -> None:
            context.progress(done + 1, total, f"cut out ({way}{note})")

        cutout = self._cutout(picture.rgba, mask, context, tell)
        if not cutout.tells_later:
            tell(cutout.method)
        if params.framing == "reference":
            return Framed(*cutout.as_reference())
        return Framed(*cutout.centered(params.size, params.defringe))

    def _cutout(
        self,
        rgba: np.ndarray,
        mask_file: bytes | None,
        context: contract.Context,
        tell: Callable[[str], None],
    ) -> Cutout:
        """The picture with the way in which its object is told from the background."""
        from stages.preprocess.cutout import Cutout, choose_method
        from stages.preprocess.reference import flatten_on_grey
        from stages.preprocess.usermask import read_mask

        params = self.params
        has_network = params.background == "auto" and locate(NETWORK) is not None
        method = choose_method(
            rgba, params.background, params.alpha_threshold, has_network, mask_file is not None
        )
        mask = None
        if mask_file is not None:
            mask = read_mask(mask_file, rgba.shape[:2], params.max_bytes, params.max_pixels)
        elif method == "rembg":
            mask = self._network(context).mask(flatten_on_grey(rgba))
        return Cutout(
            rgba,
            method,
            params.alpha_threshold,
            params.foreground_ratio,
            params.holes,
            mask,
            colour_of(params.background) if method == "colour" else None,
            context.warn,
            self._guesses().guesser(params.background),
            self._guesses().eye(params.background),
            tell,
        )

    def _guesses(self) -> Guessing:
        if self._guessing is None:
            from stages.preprocess.guessing import Guessing

            self._guessing = Guessing()
        return self._guessing

    def _network(self, context: contract.Context) -> OnnxMatting:
        """The network, read once in a process's lifetime."""
        if self._matting is None:
            from stages.models.matting import load_matting

            self._matting = load_matting(NETWORK, context.threads)
        return self._matting
