"""Several cards, one process each, started by torchrun; alone, every function does nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor, distributed, nn


def join(device: str) -> tuple[int, torch.device]:
    """This process's number, 0 if it is alone, and its device."""
    if "LOCAL_RANK" not in os.environ:
        return 0, torch.device(device)
    rank = int(os.environ["LOCAL_RANK"])
    if device != "cuda":
        distributed.init_process_group("gloo")
        return rank, torch.device(device)
    torch.cuda.set_device(rank)
    distributed.init_process_group("nccl", device_id=torch.device("cuda", rank))
    return rank, torch.device("cuda", rank)


def count() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def agree(values: Sequence[float], device: torch.device) -> tuple[float, ...]:
    """The first process's numbers, on all of them."""
    if count() == 1:
        return tuple(values)
    shared = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.broadcast(shared, 0)
    return tuple(shared.tolist())


def average_gradients(net: nn.Module) -> None:
    if count() == 1:
        return
    gradients: list[Tensor] = [p.grad for p in net.parameters() if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= count()
    for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view(gradient.shape))


def leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()
