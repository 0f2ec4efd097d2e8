"""The cards that `--device` allows."""

from __future__ import annotations

from orchestrator.errors import UsageError
from orchestrator.system.gpu import Card, GpuMonitor


def choose_cards(device: str, monitor: GpuMonitor) -> tuple[Card, ...]:
    """The cards that `--device` allows. Raises `UsageError` for one that is not there."""
    gpus = monitor.gpus()
    if device == "cpu":
        return ()
    if device == "auto":
        return tuple(Card(g.index, g.uuid, g.name) for g in gpus)
    kind, _, index = device.partition(":")
    if kind != "cuda" or not (index or "0").isdigit():
        raise UsageError(f'unknown device "{device}"', "auto, cpu, cuda:0, cuda:1, ...")
    wanted = int(index or 0)
    for gpu in gpus:
        if gpu.index == wanted:
            return (Card(gpu.index, gpu.uuid, gpu.name),)
    listed = ", ".join(f"cuda:{g.index} {g.name}" for g in gpus) or monitor.why_not
    raise UsageError(f"there is no {kind}:{wanted} here ({listed})", "--device auto or cpu")
