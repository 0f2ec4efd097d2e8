"""One picture through the network, on the CPU, with the same bits each time on one machine.

By onnxruntime, which is there in a tenth of a second where torch takes seconds; both computations
agree to 1e-5.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from stages.models import ort
from stages.models.sketch_net import GRAPH, SIDE, WEIGHTS
from stages.models.sketch_net.bins import told_thickness

THREADS = 2
"""However many a stage has: sums are cut by threads, and rounded as they are cut."""
RIM = 3
"""Pixels at the picture's rim that are replaced by their neighbours: a dark line there (a frame, or
resampling that counts what lies outside as black) reads as the edge of what is cut off."""
FLIPPED = np.array([1.0, 1.0, 1.0, -1.0, -1.0, 1.0], np.float32)
"""What a mirror image does to the entries xx, yy, zz, xy, xz, yz of a mirror plane."""
COUNTERS = "num_batches_tracked"
"""Of the training, in the file: the computation has no use for them."""
_UNFIT = (ort.errors.Fail, ort.errors.InvalidArgument, ort.errors.InvalidGraph)


@dataclass(frozen=True)
class Sketch:
    """What the network says of one picture, (256, 256) float32 each if not said otherwise. Lengths
    in half widths of the picture, along the optical axis; meaningful where the object is.

    alpha       [0, 1]
    front       depth of the nearest surface from the object's middle, positive towards the camera
    front_error expected error of `front`
    normal      (256, 256, 3) unit, camera axes: x right, y up, z towards the camera
    thickness   from the front to the last surface behind it: about the median of what is likely
    certainty   [0, 1]: how much of the likelihood lies within about a quarter of that
    albedo      (256, 256, 3) sRGB in [0, 1]: the object's paint without shading and highlights
    behind_normal, behind_albedo  the same two of the last surface on each ray, smoother
    elevation   float, radians: the camera's above the object's ground, negative from below
    elevation_error  float, radians: the error that it expects of `elevation`; large where the
                object has no up, or the picture shows it tilted
    mirror      (3,) unit normal of the plane that mirrors the object; camera axes, x >= 0
    mirror_certainty  float in [0, 1]: how likely there is such a plane, and within 10 degrees
    """

    alpha: np.ndarray
    front: np.ndarray
    front_error: np.ndarray
    normal: np.ndarray
    thickness: np.ndarray
    certainty: np.ndarray
    albedo: np.ndarray
    behind_normal: np.ndarray
    behind_albedo: np.ndarray
    elevation: float
    elevation_error: float
    mirror: np.ndarray
    mirror_certainty: float


class Network:
    """The network with its weights: keep one for a process's lifetime. See `load_network`."""

    def __init__(self, graph: Path, weights: dict[str, np.ndarray]) -> None:
        options = ort.session_options(THREADS)
        options.log_severity_level = 4  # what goes wrong is raised
        names = [name for name in weights if not name.endswith(COUNTERS)]
        values = [
            ort.onnxruntime.OrtValue.ortvalue_from_numpy(weights[name].astype(np.float32))
            for name in names
        ]
        options.add_external_initializers([f"net.{name}" for name in names], values)
        self._session = ort.onnxruntime.InferenceSession(
            str(graph), options, providers=["CPUExecutionProvider"]
        )
        self._outputs = [output.name for output in self._session.get_outputs()]

    def __call__(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        """(N, 3, 256, 256) float32 sRGB in [0, 1] -> the fields of `network.Estimates`, float32."""
        made = self._session.run(self._outputs, {"pictures": pictures})
        return dict(zip(self._outputs, made, strict=True))


def load_network(path: Path = WEIGHTS) -> Network:
    """The network with its weights, ready to be used.

    Raises OSError where a file cannot be read, ValueError where it is not this network's.
    """
    if not GRAPH.is_file():
        raise FileNotFoundError(f"there is no file {GRAPH}")
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error
    try:
        return Network(GRAPH, weights)
    except _UNFIT as error:
        raise ValueError(f"{path} does not fit the network: {error}") from error


def sketch(net: Network, picture: np.ndarray, mirrored: bool = True) -> Sketch:
    """picture (256, 256, 3) uint8 sRGB, of which the outermost `RIM` pixels are not looked at, but
    answered for. `mirrored`: also seen in a mirror, and averaged.

    Raises ValueError for a picture of another shape.
    """
    if picture.shape != (SIDE, SIDE, 3) or picture.dtype != np.uint8:
        raise ValueError(f"the network takes {SIDE} x {SIDE} RGB bytes, not {picture.shape}")
    inner = picture[RIM:-RIM, RIM:-RIM].astype(np.float32) / np.float32(255.0)
    x = np.pad(inner, ((RIM, RIM), (RIM, RIM), (0, 0)), mode="edge").transpose(2, 0, 1)[None]
    made = net(np.concatenate([x, x[..., ::-1]]) if mirrored else np.ascontiguousarray(x))
    return _decode(_together(made))


def _together(made: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Estimates of a picture, or of it and its mirror image (1 or 2, ...), as one (...).

    `alpha`, `thickness` and `symmetric` become shares instead of logits.
    """
    shares = {
        **made,
        "alpha": _sigmoid(made["alpha"]),
        "symmetric": _sigmoid(made["symmetric"]),
        "thickness": _softmax(made["thickness"]),
    }
    if len(made["alpha"]) == 1:
        return {name: values[0] for name, values in shares.items()}
    joined = {
        name: (values[0] + (values[1][..., ::-1] if values.ndim == 4 else values[1])) / 2.0
        for name, values in shares.items()
    }
    sign = np.array([-1.0, 1.0, 1.0], np.float32)[:, None, None]
    for name in ("normal", "behind_normal"):
        joined[name] = made[name][0] + made[name][1][..., ::-1] * sign
    joined["mirror"] = (made["mirror"][0] + made["mirror"][1] * FLIPPED) / 2.0
    return joined


def _decode(made: dict[str, np.ndarray]) -> Sketch:
    thickness, certainty = told_thickness(_big(made["thickness"]))
    return Sketch(
        alpha=made["alpha"][0],
        front=made["front"][0],
        front_error=np.exp(made["spread"][0]),
        normal=_unit(made["normal"].transpose(1, 2, 0)),
        thickness=thickness,
        certainty=certainty,
        albedo=_colours(made["albedo"]),
        behind_normal=_unit(_big(made["behind_normal"])),
        behind_albedo=_colours(_big(made["behind_albedo"]).transpose(2, 0, 1)),
        elevation=float(made["elevation"]),
        elevation_error=float(np.exp(made["elevation_spread"])),
        mirror=_normal(made["mirror"]),
        mirror_certainty=float(made["symmetric"]),
    )


def _big(values: np.ndarray) -> np.ndarray:
    """(C, 128, 128) -> (256, 256, C)."""
    return np.asarray(cv2.resize(values.transpose(1, 2, 0), (SIDE, SIDE)))


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(length, 1e-6))


def _colours(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.clip(values, 0.0, 1.0).transpose(1, 2, 0))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits)), np.float32)


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Over axis 1."""
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _normal(entries: np.ndarray) -> np.ndarray:
    """(3,) float32 unit n, the main axis of a symmetric matrix given as xx, yy, zz, xy, xz, yz."""
    xx, yy, zz, xy, xz, yz = entries.astype(np.float64).tolist()
    matrix = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    axis = np.linalg.eigh(matrix)[1][:, -1]
    return np.asarray(axis if axis[0] >= 0.0 else -axis, np.float32)
