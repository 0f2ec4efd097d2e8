"""What a profile file may say: the graph's nodes, their ladders, and how processes are run."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class _Strict(BaseModel):
    # An infinite time limit could not be written to run.json, which JSON is.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Attempt(_Strict):
    """One rung of a node's ladder."""

    device: Literal["cpu", "cuda"] = Field("cpu", description="where the stage computes")
    dtype: Literal["float32", "float16", "bfloat16"] = Field("float32", description="its numbers")
    params: dict[str, Any] = Field(default_factory=dict, description="params that differ here")
    tries: int = Field(2, ge=1, le=10, description="how often this rung is tried after a crash")
    degraded: str = Field("", description="what a result of this rung costs; empty: nothing")
    fallback: bool = Field(
        True, description="false: a CPU rung for --device cpu alone, never fallen to by itself"
    )

    def __str__(self) -> str:
        """In a few words: `cuda bfloat16 placement=streamed`."""
        params = [f"{name}={value}" for name, value in self.params.items()]
        notes = [] if self.fallback else ["(--device cpu only)"]
        return " ".join([self.device, self.dtype, *params, *notes])


class NodeConfig(_Strict):
    """One node of the graph."""

    stage: str = Field(description="registry name of the stage")
    params: dict[str, Any] = Field(default_factory=dict, description="the stage's own params")
    attempts: list[Attempt] = Field(default_factory=lambda: [Attempt()], min_length=1)
    reads: dict[str, str] = Field(
        default_factory=dict, description="input name -> artifact name, where they differ"
    )
    timeout: float = Field(600.0, gt=0, description="seconds that one job may take")
    load_timeout: float = Field(300.0, gt=0, description="seconds that loading may take")
    previews: int = Field(
        4, ge=0, le=50, description="pictures of its work on the way, where it shows any; 0: none"
    )
    enabled: bool = Field(True, description="false leaves the node out of the graph")


class Runtime(_Strict):
    """How processes are run; none of it changes a result."""

    heartbeat_interval: float = Field(1.0, gt=0, le=60, description="seconds between heartbeats")
    heartbeat_timeout: float = Field(
        60.0, gt=0, description="silence after which a child is killed"
    )
    stop_grace: float = Field(2.0, ge=0, description="seconds from SIGTERM to SIGKILL")
    cpu_slots: int = Field(
        0,
        ge=0,
        le=1024,
        description="CPU stages that compute at the same time; 0: as cores and memory allow",
    )
    threads: int = Field(
        0,
        ge=0,
        le=256,
        description="CPU threads a stage; 0: the cores, at most 4, in a batch a share of them",
    )
    prefetch: bool = Field(True, description="start the next stage's process ahead of time")
    inline_max_bytes: int = Field(
        1 << 20,
        ge=0,
        le=1 << 30,
        description="what a job's files may take of its message; others are written",
    )
    vram_tolerance_mib: int = Field(64, ge=0, description="rest that counts as released")
    release_deadline: float = Field(10.0, gt=0, description="seconds until memory counts as held")
    max_input_mib: int = Field(256, gt=0, description="larger input files are refused")
    previews: bool = Field(
        True, description="write a PNG beside each image artifact, and what stages show on the way"
    )


def _finite(layer: dict[str, Any]) -> dict[str, Any]:
    json.dumps(layer, allow_nan=False)
    return layer


class Profile(_Strict):
    """A whole profile file."""

    description: str = ""
    seed: int = Field(42, ge=0, lt=1 << 63, description="the only source of randomness")
    nodes: dict[str, NodeConfig] = Field(default_factory=dict)
    fast: Annotated[dict[str, Any], AfterValidator(_finite)] = Field(
        default_factory=dict, description="what --fast changes: keys as at the top of a profile"
    )
    from_mesh: Annotated[dict[str, Any], AfterValidator(_finite)] = Field(
        default_factory=dict,
        description="what changes when runs begin with a mesh: keys as at the top of a profile",
    )
    runtime: Runtime = Field(default_factory=Runtime)
