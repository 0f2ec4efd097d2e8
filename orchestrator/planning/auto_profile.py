"""`--profile auto`: the best shipped profile that this machine can run, and why it is that one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.pipeline import layers
from orchestrator.pipeline.budget import GIB
from orchestrator.pipeline.graph import Graph
from orchestrator.planning import vram_table
from orchestrator.planning.options import Start
from orchestrator.system.gpu import GpuMonitor
from orchestrator.weights import needs

CANDIDATES = ("full_12gb", "multiview_only")
"""Profiles for a GPU that begin with a picture, best first."""
LAST = "sketch"
BY_START: Mapping[Start, tuple[str, ...]] = {
    "picture": (*CANDIDATES, LAST),
    "text": ("text",),
    "mesh": ("enhance", LAST),
}
"""The profiles that `auto` chooses from, best first, by what a run begins with."""


def choose_profile(monitor: GpuMonitor, start: Start = "picture") -> tuple[str, str]:
    """(name, reason). Looks at the cards and at which weights are here; starts nothing.

    Words leave no choice: without a card or weights, the profile's own check says what is missing.
    """
    *candidates, last = BY_START[start]
    if not candidates:
        return last, "auto: words need Flux"
    gpus = monitor.gpus()
    seen = ", ".join(f"{g.name} {g.total / GIB:.0f} GiB" for g in gpus) or "no GPU"
    if not gpus:
        return last, f"auto: {seen}; {last} is the profile that needs none"
    largest = round(max(gpu.total for gpu in gpus) / GIB)  # a card of 6 GiB has 5.8
    refused: list[str] = []
    for name in candidates:
        why = "; ".join(_obstacles(name, largest))
        if not why:
            return name, f"auto: {seen}, and the weights of {name} are here"
        refused.append(f"{name} {why}")
    pull = f"kiss3d-orchestrate models pull --profile {candidates[0]}"
    return last, f"auto: {seen}; {'; '.join(refused)} ({pull})"


def _obstacles(name: str, largest: int) -> Iterator[str]:
    profile = layers.load(name).profile
    least = vram_table.least_card(profile)
    if largest and largest < least:
        yield f"needs {least} GiB of VRAM"
    graph = Graph.from_profile(profile)
    missing = needs.missing_for(graph)
    if missing:
        size = sum(item.size for item in missing) / 1e9
        yield f"lacks weights of {size:.1f} GB"
