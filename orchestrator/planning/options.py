"""What the command line says about a run."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from orchestrator.record.manifest import Keep

Start = Literal["picture", "text", "mesh"]
"""What runs begin with."""


def start_of(given: Collection[str]) -> Start:
    """What runs begin with that these artifacts were given for."""
    if "input_mesh" in given:
        return "mesh"
    return "picture" if "input_image" in given else "text"


@dataclass(frozen=True)
class Options:
    """What the command line says about a run, before anything is looked up.

    profile      a name, "auto", or None for the one that `config_file` builds on (else auto)
    seed         None leaves the profile's; 0 is a seed like any other
    until        last node to compute; from_node: first node to compute again
    device       "auto", "cpu" or "cuda:<index>"
    target_vram  GiB of the card that a process may take; 0: what is free
    host_ram     GiB of host memory for weights; 0: what is available
    caption      the user's own, for the profile's caption stage
    fast         the profile's faster settings
    allow_tf32   for all nodes that have the param
    background   what the picture's background is, for the profile's preprocess stage
    formats      of mesh files besides the usual ones, names in `stages.contract.mesh_formats`
    report       a page for people is written into each run's result
    keep         what stays of a run that is done
    start        what the runs begin with
    views        what further pictures of the object show: "named": what they were given as, or
                 "auto": found out
    candidates   seeds that are tried, of which the best is kept; 0: one run
    """

    profile: str | None = None
    config_file: Path | None = None
    sets: tuple[str, ...] = ()
    seed: int | None = None
    until: str | None = None
    from_node: str | None = None
    device: str = "auto"
    target_vram: float = 0.0
    host_ram: float = 0.0
    caption: str | None = None
    fast: bool = False
    allow_tf32: bool = False
    background: str | None = None
    formats: tuple[str, ...] = ()
    report: bool = True
    keep: Keep = "all"
    start: Start = "picture"
    views: Literal["named", "auto"] = "named"
    candidates: int = 0
