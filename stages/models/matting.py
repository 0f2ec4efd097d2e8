"""Foreground masks from the networks that rembg uses, run with onnxruntime on the CPU.

The arithmetic is rembg 2.0.57's (docs/reference.md, "The input picture"), so that the same network
gives the same mask; the package itself is not needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from stages.contract import StageError
from stages.models import ort
from stages.weights.catalogue import find_file

_UNREADABLE = (
    ort.errors.Fail,
    ort.errors.InvalidArgument,
    ort.errors.InvalidGraph,
    ort.errors.InvalidProtobuf,
)


@dataclass(frozen=True)
class Preparation:
    """What a network wants to see.

    size        side of its square input, pixels
    mean, std   of RGB in [0, 1]: the input is (rgb - mean) / std
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


_IMAGENET_MEAN = (0.485, 0.456, 0.406)
NETWORKS = {
    "isnet-general-use": Preparation(1024, _IMAGENET_MEAN, (1.0, 1.0, 1.0)),
    "u2net": Preparation(320, _IMAGENET_MEAN, (0.229, 0.224, 0.225)),
}
"""By catalogue name."""


def load_matting(name: str, threads: int) -> OnnxMatting:
    """A network of `NETWORKS`, from the weights of the same name.

    Raises `StageError` of kind missing_weights.
    """
    preparation = NETWORKS[name]
    return OnnxMatting(
        find_file(name), preparation.size, preparation.mean, preparation.std, threads
    )


class OnnxMatting:
    """A salient-object network: picture in, mask out. Keep one for a process's lifetime.

    path        an ONNX file with one input (1, 3, size, size) float32, whose first output is the
                saliency (1, 1, h, w); further outputs are not computed
    size, mean, std   see `Preparation`
    threads     CPU threads to use

    Raises `StageError` of kind missing_weights when the file holds no network, or another.
    """

    def __init__(
        self,
        path: Path,
        size: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        threads: int = 1,
    ) -> None:
        options = ort.session_options(threads)
        try:
            self._session = ort.onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except _UNREADABLE as error:
            raise StageError(
                "missing_weights",
                f"{path} holds no ONNX network that can be run: {error}",
                "the file is damaged or another one: delete it and pull it again",
            ) from error
        wanted = (1, 3, size, size)
        shape = tuple(self._session.get_inputs()[0].shape)
        # A free dimension has a name in place of a number.
        if len(shape) != 4 or any(
            isinstance(found, int) and found != number
            for found, number in zip(shape, wanted, strict=True)
        ):
            raise StageError(
                "missing_weights",
                f"{path} is another network: it takes {shape}, expected {wanted}",
                "delete it and pull it again",
            )
        self._size = size
        self._mean = np.array(mean)
        self._std = np.array(std)

    def mask(self, rgb: np.ndarray) -> np.ndarray:
        """Mask (H, W) uint8 of a picture (H, W, 3) uint8 sRGB, 255 = object.

        The saliency is stretched to the full range for each picture; if it is the same everywhere,
        nothing stands out and the mask is empty.
        """
        picture = Image.fromarray(np.ascontiguousarray(rgb))
        name = self._session.get_inputs()[0].name
        first = self._session.get_outputs()[0].name
        saliency = self._session.run([first], {name: self._prepared(picture)})[0][0, 0]
        low, high = float(saliency.min()), float(saliency.max())
        if not high > low:
            return np.zeros(rgb.shape[:2], np.uint8)
        # Truncated, not rounded, as the original does.
        stretched = ((saliency - low) / (high - low) * 255.0).astype(np.uint8)
        return np.asarray(
            Image.fromarray(stretched).resize(picture.size, Image.Resampling.LANCZOS)
        ).copy()

    def _prepared(self, picture: Image.Image) -> np.ndarray:
        """(1, 3, size, size) float32; the brightest value of the picture counts as 1."""
        side = (self._size, self._size)
        pixels = np.asarray(picture.resize(side, Image.Resampling.LANCZOS), np.float64)
        scaled = pixels / max(float(pixels.max()), 1e-6)
        normal = (scaled - self._mean) / self._std
        tensor: np.ndarray = normal.transpose(2, 0, 1)[None].astype(np.float32)
        return tensor
