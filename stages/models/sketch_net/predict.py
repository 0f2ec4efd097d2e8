"""One picture through the network, on the CPU, with the same bits each time on one machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from stages.models.sketch_net import WEIGHTS
from stages.models.sketch_net.network import SIDE, Estimates, SketchNet, thickness_bins

RIM = 3
"""Pixels at the picture's rim that are replaced by their neighbours: a dark line there (a frame, or
resampling that counts what lies outside as black) reads as the edge of what is cut off."""
FLIPPED = (1.0, 1.0, 1.0, -1.0, -1.0, 1.0)
"""What a mirror image does to `Estimates.mirror`."""


@dataclass(frozen=True)
class Sketch:
    """What the network says of one picture, (256, 256) float32 each if not said otherwise. Lengths
    in half widths of the picture, along the optical axis; meaningful where the object is.

    alpha       [0, 1]
    front       depth of the nearest surface from the object's middle, positive towards the camera
    front_error expected error of `front`
    normal      (256, 256, 3) unit, camera axes: x right, y up, z towards the camera
    thickness   median of the distance from the front to the last surface behind it
    certainty   [0, 1]: how much of the likelihood lies within about a quarter of that median
    albedo      (256, 256, 3) sRGB in [0, 1]: the object's paint without shading and highlights
    elevation   float, radians: the camera's above the object's ground, negative from below
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
    elevation: float
    mirror: np.ndarray
    mirror_certainty: float


def load_network(path: Path = WEIGHTS) -> SketchNet:
    """The network with its weights, as float32, ready to be used.

    Raises OSError where the file cannot be read, ValueError where it is not this network's.
    """
    try:
        weights = load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file: {error}") from error
    net = SketchNet()
    try:
        net.load_state_dict(weights)  # copied into float32
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the network: {error}") from error
    return net.eval()


@torch.inference_mode()
def sketch(net: SketchNet, picture: np.ndarray, mirrored: bool = True) -> Sketch:
    """picture (256, 256, 3) uint8 sRGB, of which the outermost `RIM` pixels are not looked at, but
    answered for. `mirrored`: also seen in a mirror, and averaged.

    Raises ValueError for a picture of another shape.
    """
    if picture.shape != (SIDE, SIDE, 3) or picture.dtype != np.uint8:
        raise ValueError(f"the network takes {SIDE} x {SIDE} RGB bytes, not {picture.shape}")
    x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255.0
    x = functional.pad(x[..., RIM:-RIM, RIM:-RIM], (RIM,) * 4, mode="replicate")
    made = net(torch.cat([x, x.flip(3)]) if mirrored else x)
    return decode(together(made) if mirrored else made)


def together(made: Estimates) -> Estimates:
    """Estimates of a picture and of its mirror image (2, ...), averaged into (1, ...)."""

    def mean(values: Tensor) -> Tensor:
        return (values[:1] + values[1:].flip(3)) / 2.0

    sign = torch.tensor([-1.0, 1.0, 1.0])[None, :, None, None]
    normal = made.normal[:1] + made.normal[1:].flip(3) * sign
    likely = mean(torch.softmax(made.thickness, dim=1))
    return Estimates(
        alpha=torch.logit(mean(torch.sigmoid(made.alpha)), eps=1e-6),
        front=mean(made.front),
        spread=mean(made.spread),
        normal=functional.normalize(normal, dim=1, eps=1e-6),
        thickness=torch.log(likely + 1e-9),
        albedo=mean(made.albedo),
        elevation=made.elevation.mean(0, keepdim=True),
        mirror=(made.mirror[:1] + made.mirror[1:] * torch.tensor(FLIPPED)) / 2.0,
        symmetric=torch.logit(torch.sigmoid(made.symmetric).mean(0, keepdim=True), eps=1e-6),
    )


def decode(made: Estimates) -> Sketch:
    """The first picture's estimates as arrays."""
    likely = torch.softmax(made.thickness[:1], dim=1)
    likely = functional.interpolate(likely, size=made.front.shape[2:], mode="bilinear")[0]
    median, certainty = _median(likely)
    return Sketch(
        alpha=torch.sigmoid(made.alpha[0, 0]).numpy(),
        front=made.front[0, 0].numpy(),
        front_error=made.spread[0, 0].exp().numpy(),
        normal=made.normal[0].permute(1, 2, 0).numpy(),
        thickness=median.numpy(),
        certainty=certainty.numpy(),
        albedo=made.albedo[0].clamp(0.0, 1.0).permute(1, 2, 0).numpy(),
        elevation=float(made.elevation[0]),
        mirror=_normal(made.mirror[0]),
        mirror_certainty=float(torch.sigmoid(made.symmetric[0])),
    )


def _normal(entries: Tensor) -> np.ndarray:
    """(3,) float32 unit n, the main axis of a symmetric matrix given as xx, yy, zz, xy, xz, yz."""
    xx, yy, zz, xy, xz, yz = entries.double().tolist()
    matrix = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    axis = np.linalg.eigh(matrix)[1][:, -1]
    return np.asarray(axis if axis[0] >= 0.0 else -axis, np.float32)


def _median(likely: Tensor) -> tuple[Tensor, Tensor]:
    """(S, S) medians of (BINS, S, S) shares, and the share within a quarter of them."""
    bins = thickness_bins()
    below = likely.cumsum(0)
    # A bin's share is spread between the middles of its neighbours.
    edges = torch.cat([bins[:1], (bins[1:] + bins[:-1]) / 2.0, bins[-1:]])
    index = (below < 0.5).sum(0).clamp(max=len(bins) - 1)
    share = likely.gather(0, index[None])[0].clamp(min=1e-6)
    before = below.gather(0, index[None])[0] - share
    part = ((0.5 - before) / share).clamp(0.0, 1.0)
    median = edges[index] + part * (edges[index + 1] - edges[index])
    near = torch.exp(-((bins[:, None, None] - median) / (0.25 * median + 0.02)).square())
    return median, (near * likely).sum(0)
