"""The sketch's network: cut-out, depth, normals and thickness of an object from one picture."""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).with_name("sketch_net.safetensors")
"""float16; docs/sketch-network.md tells how they came about. A stripped package may lack them."""
GRAPH = Path(__file__).with_name("sketch_net.onnx")
"""The network's computation without its weights, made by training/export.py."""

SIDE = 256
"""Of the square picture that the network takes, pixels."""
