"""The network's graph for onnxruntime, which stages use: it starts in a tenth of torch's time.

    python -m training.export

Writes stages/models/sketch_net/sketch_net.onnx from network.py. It holds no weights: they stay in
sketch_net.safetensors and are handed over by name, so a new training needs no new graph. To be run
again when network.py changes; needs the packages `onnx` and `onnxscript`.
"""

from __future__ import annotations

import tempfile
from dataclasses import fields
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from stages.models.sketch_net import GRAPH, SIDE
from stages.models.sketch_net.network import Estimates, SketchNet

OPSET = 18
ELSEWHERE = "given"
"""Location of weights that are handed over: no file has this name."""


class Outputs(nn.Module):
    """The network with its estimates as a tuple."""

    def __init__(self, net: SketchNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        made = self.net(pictures)
        return tuple(getattr(made, field.name) for field in fields(Estimates))


def without_weights(model: onnx.ModelProto, names: set[str]) -> None:
    """Leave of the initializers `net.NAME` their shapes; drop what describes where nodes came
    from."""
    for node in model.graph.node:
        node.doc_string = ""
        node.ClearField("metadata_props")
    for value in model.graph.value_info:
        value.ClearField("metadata_props")
    model.ClearField("metadata_props")
    for tensor in model.graph.initializer:
        tensor.ClearField("metadata_props")
        if tensor.name.removeprefix("net.") not in names:
            continue
        for data in ("raw_data", "float_data", "external_data"):
            tensor.ClearField(data)
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", ELSEWHERE
        tensor.data_location = onnx.TensorProto.EXTERNAL


def main() -> None:
    net = SketchNet().eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        torch.onnx.export(
            Outputs(net),
            (torch.zeros(2, 3, SIDE, SIDE),),
            path,
            input_names=["pictures"],
            output_names=[field.name for field in fields(Estimates)],
            opset_version=OPSET,
            dynamo=True,
            optimize=False,
            external_data=False,
            dynamic_shapes=({0: torch.export.Dim("count", min=1, max=64)},),
        )
        model = onnx.load(path)
    without_weights(model, set(net.state_dict()))
    onnx.save(model, GRAPH)
    print(f"{GRAPH}: {GRAPH.stat().st_size:,} bytes, {len(model.graph.node)} nodes")


if __name__ == "__main__":
    main()
