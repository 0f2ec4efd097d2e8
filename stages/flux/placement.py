"""Where the weights are at which moment of a job.

    resident   all nets on the device, from load to exit
    model      the VAE while it encodes, then transformer and ControlNet, then the VAE
    streamed   the VAE as above; of the nets, the blocks that compute now and next

The loop and the autoencoder know nothing of it: they call modules inside `with placement.vae()`
and `with placement.nets()`. Another way to stream is another class with these three methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any, Literal, Protocol

import torch

Name = Literal["resident", "model", "streamed"]


class Placement(Protocol):
    """home: where `build` is to put the weights."""

    home: torch.device

    def adopt(self, vae: Any, nets: Sequence[Any]) -> None:
        """Take charge of modules whose weights are at `home`."""

    def vae(self) -> AbstractContextManager[None]:
        """While it is entered, the VAE can be called."""

    def nets(self) -> AbstractContextManager[None]:
        """While it is entered, transformer and ControlNet can be called."""


class Parked:
    """A module that lives on the CPU and visits the device.

    Leaving costs nothing: the weights did not change, so the device's copies are dropped and the
    host's (often mapped files) take their place again.
    """

    def __init__(self, module: Any, device: torch.device) -> None:
        self._device = device
        self._tensors = [*module.parameters(), *module.buffers()]

    @contextmanager
    def on_device(self) -> Iterator[None]:
        kept = [tensor.data for tensor in self._tensors]
        try:
            for tensor in self._tensors:
                tensor.data = tensor.data.to(self._device)
            yield
        finally:
            for tensor, host in zip(self._tensors, kept, strict=True):
                tensor.data = host
            if self._device.type == "cuda":
                torch.cuda.empty_cache()


class Resident:
    """Everything on the device."""

    def __init__(self, device: torch.device) -> None:
        self.home = device

    def adopt(self, vae: Any, nets: Sequence[Any]) -> None:
        """Nothing to do: they are where they are to be."""

    def vae(self) -> AbstractContextManager[None]:
        return nullcontext()

    def nets(self) -> AbstractContextManager[None]:
        return nullcontext()


class ByModel:
    """The VAE and the nets take turns on the device."""

    def __init__(self, device: torch.device) -> None:
        self.home = torch.device("cpu")
        self._device = device
        self._vae: Parked
        self._nets: list[Parked] = []

    def adopt(self, vae: Any, nets: Sequence[Any]) -> None:
        self._vae = Parked(vae, self._device)
        self._nets = [Parked(net, self._device) for net in nets]

    def vae(self) -> AbstractContextManager[None]:
        return self._vae.on_device()

    @contextmanager
    def nets(self) -> Iterator[None]:
        with ExitStack() as stack:
            for net in self._nets:
                stack.enter_context(net.on_device())
            yield


class Streamed(ByModel):
    """The nets' blocks come to the device one by one, the next while one computes.

    diffusers' group offloading. Host tensors are pinned as they are sent: pinning all beforehand
    takes 46 GiB of RAM instead of 2, and hides no more than a slow card's computing does.
    """

    def adopt(self, vae: Any, nets: Sequence[Any]) -> None:
        from diffusers.hooks import apply_group_offloading

        super().adopt(vae, [])
        on_cuda = self._device.type == "cuda"
        for net in nets:
            apply_group_offloading(
                net,
                onload_device=self._device,
                offload_device=self.home,
                offload_type="block_level",
                num_blocks_per_group=1,
                use_stream=on_cuda,
                low_cpu_mem_usage=on_cuda,
            )


_PLACEMENTS: dict[Name, Callable[[torch.device], Placement]] = {
    "resident": Resident,
    "model": ByModel,
    "streamed": Streamed,
}


def open_placement(name: Name, device: torch.device) -> Placement:
    return _PLACEMENTS[name](device)
