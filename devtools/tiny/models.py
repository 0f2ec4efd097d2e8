"""A whole folder of tiny weights: every name that the shipped profiles load.

The parts fit each other as the published ones do: T5's and Redux's width is the denoiser's
`joint_attention_dim`, CLIP's pooled width its `pooled_projection_dim`.
"""

from __future__ import annotations

from pathlib import Path

from devtools.tiny import encoders, flux, text
from devtools.tiny.onnx_net import build_isnet
from devtools.tiny.prm import build_prm
from devtools.tiny.zero123plus import build_flexgen, build_zero123plus

U2NET_SIDE = 320


def build_models(folder: Path) -> Path:
    """Everything in a few seconds and megabytes; returns the folder, for KISS3D_MODELS."""
    assert (encoders.TEXT_DIM, encoders.POOLED_DIM) == (flux.TEXT, flux.POOLED)
    flux.build_all(folder)
    encoders.build_flux_text(folder)
    encoders.build_redux(folder)
    text.build_florence(folder)
    text.build_qwen(folder)
    build_zero123plus(folder)
    build_flexgen(folder)
    build_prm(folder)
    build_isnet(folder)
    build_isnet(folder, U2NET_SIDE, "u2net")
    return folder
