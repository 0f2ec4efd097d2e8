"""A UNet whose kernels are recorded once and replayed in every step.

A step launches some 3,000 kernels, most of them so short that a card waits for Python. A CUDA graph
holds them with their order and their memory, and is launched as one. They are the same kernels on
the same numbers, so the result is the same to the bit.
"""

from __future__ import annotations

import logging

import torch

from stages.multiview.zero123plus.reference_attention import ReferenceUNet

log = logging.getLogger(__name__)


class Graphed:
    """The UNet of one job, called with tensors of the same shapes in every step.

    On a card the first call runs as ever, which loads and chooses kernels; the second is recorded.
    Where that fails, and on a CPU, all run as ever. Its memory is free when it is dropped; the UNet
    must not leave the device before.
    """

    def __init__(self, unet: ReferenceUNet) -> None:
        self._unet = unet
        self._replays = unet.device.type == "cuda"
        self._warm = False
        self._graph: torch.cuda.CUDAGraph | None = None
        self._given: list[torch.Tensor] = []
        self._result = torch.empty(0)

    def __call__(self, *given: torch.Tensor) -> torch.Tensor:
        """As `ReferenceUNet.__call__`."""
        if self._replays and self._warm and self._graph is None:
            self._record(given)
        self._warm = True
        if self._graph is None:
            return self._unet(*given)
        for kept, value in zip(self._given, given, strict=True):
            kept.copy_(value)
        self._graph.replay()
        return self._result

    def _record(self, given: tuple[torch.Tensor, ...]) -> None:
        graph = torch.cuda.CUDAGraph()
        kept = [value.clone() for value in given]
        try:
            # Other threads of the process may call the driver meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                result = self._unet(*kept)
        except RuntimeError as error:
            self._replays = False
            log.warning("the UNet's kernels could not be recorded: %s", error)
            return
        self._graph, self._given, self._result = graph, kept, result
