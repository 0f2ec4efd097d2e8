"""run.json: what was asked, on what machine, and one row a node and attempt. Data only."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from orchestrator.pipeline.names import NODE_NAME
from orchestrator.pipeline.weights_record import Row, WeightsRecord

FORMAT = 1

_YEAR_10000 = 253402300800
"""In seconds since 1970: the first moment that Python has no date for."""

NodeState = Literal["pending", "running", "done", "failed", "skipped"]
RunState = Literal["running", "done", "failed", "interrupted"]
Keep = Literal["all", "result", "mesh"]
"""What stays of a run once it is done: all; result/, picture and record; or of result/ too no mesh
file but mesh.glb."""


def plain_name(name: str) -> str:
    """One path component: what run.json says must never lead out of the run directory.

    Raises ValueError.
    """
    if not name or name in (".", "..") or any(sign in name for sign in "/\\:\0"):
        raise ValueError(f"{name!r} is not a plain file name")
    return name


def _node_name(name: str) -> str:
    if not NODE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a node's name")
    return name


FileName = Annotated[str, AfterValidator(plain_name)]
NodeName = Annotated[str, AfterValidator(_node_name)]


class FileRecord(Row):
    """One file of an artifact, relative to the node's folder."""

    file: FileName
    size: int
    digest: str = ""


class AttemptRow(Row):
    """One try of one node for one job.

    rung       counted from the first one that fits the budget
    card       which of the machine's cards, as CUDA_VISIBLE_DEVICES names it; "": none
    params     the stage's params that this rung sets itself
    outcome    "done" or a failure kind
    move       what was decided after a failure, with the reason: "next rung: ..."
    timings    seconds: spawn, import, load (the process's own, shared by its jobs), read, compute,
               write
    vram       the release verdict (orchestrator.system.gpu.Release), filled in when the process is
               gone
    predicted  what the plan expected (orchestrator.pipeline.budget.Prediction); empty: never
               measured
    """

    rung: int
    device: str
    card: str = ""
    dtype: str = "float32"
    params: dict[str, Any] = Field(default_factory=dict)
    warm: bool = False
    cold_reason: str = ""
    pid: int = 0
    log: str = ""
    started: float = 0.0
    seconds: float = 0.0
    outcome: str = ""
    message: str = ""
    hint: str = ""
    move: str = ""
    timings: dict[str, float] = Field(default_factory=dict)
    peak_rss: int = 0
    vram: dict[str, Any] = Field(default_factory=dict)
    predicted: dict[str, Any] = Field(default_factory=dict)


class NodeRecord(Row):
    """One node of one run.

    key          the cache key that the artifacts answer to
    key_parts    what the key is a digest of, so that a plan can say what has changed
    weights      what the attempt that made the artifacts loaded
    cached_from  the run directory that they were taken from, or "" when computed here
    degraded     what the rung that made them costs, or the stage found lacking, or ""
    warnings     what the stage wants people to know of them
    """

    state: NodeState = "pending"
    stage: str = ""
    key: str = ""
    key_parts: dict[str, Any] = Field(default_factory=dict)
    weights: list[WeightsRecord] = Field(default_factory=list)
    artifacts: dict[FileName, list[FileRecord]] = Field(default_factory=dict)
    attempts: list[AttemptRow] = Field(default_factory=list)
    cached_from: str = ""
    degraded: str = ""
    warnings: list[str] = Field(default_factory=list)
    reason: str = ""


class InputRecord(Row):
    """One thing that the user gave, and the copy of it that the run works on.

    source  where the file was, or "" for words, which `text` has then
    """

    source: str = ""
    text: str = ""
    file: FileName
    size: int
    digest: str

    @property
    def title(self) -> str:
        """What to call it: the file's path, or the words between quotation marks."""
        return self.source or f'"{self.text}"'


class Manifest(Row):
    """The whole of run.json.

    given         artifact -> what the user gave under its name; the run is called after the first
    wall_seconds  of the last go alone; in a batch, from its start until this picture was done
    former        nodes of a profile that the run no longer has; their files are still there
    no_report     why result/report.html could not be written, or ""
    formats       of mesh files that are wanted in result/ besides the usual ones
    exports       the files that were written there for that, or by `export`
    former_exports  such files that were made of an earlier mesh, and have gone with it
    no_export     why some of them could not be written, or ""
    keep          what is to stay when the run is done
    kept          what has stayed: as `keep` as soon as files of its nodes go; their records, which
                  still say "done", tell what they were
    """

    format: int = FORMAT
    version: str = ""
    state: RunState = "running"
    profile: str = ""
    profile_reason: str = ""
    seed: int = 0
    created: float = Field(0.0, ge=0, lt=_YEAR_10000)
    finished: float = 0.0
    wall_seconds: float = 0.0
    given: dict[NodeName, InputRecord] = Field(min_length=1)
    settings: dict[str, Any] = Field(default_factory=dict)
    sources: dict[str, str] = Field(default_factory=dict)
    until: str = ""
    device: str = "auto"
    target_vram: float = 0.0
    host_ram: float = 0.0
    machine: dict[str, Any] = Field(default_factory=dict)
    nodes: dict[NodeName, NodeRecord] = Field(default_factory=dict)
    former: dict[NodeName, NodeRecord] = Field(default_factory=dict)
    error: str = ""
    no_report: str = ""
    formats: list[str] = Field(default_factory=list)
    exports: list[FileName] = Field(default_factory=list)
    former_exports: list[FileName] = Field(default_factory=list)
    no_export: str = ""
    keep: Keep = "all"
    kept: Keep = "all"

    @model_validator(mode="before")
    @classmethod
    def _older(cls, data: Any) -> Any:
        """Runs of the first version gave a picture and perhaps a mask, under keys of their own."""
        if not isinstance(data, dict) or "input" not in data:
            return data
        kept = {key: value for key, value in data.items() if key not in ("input", "mask")}
        mask = {"input_mask": data["mask"]} if data.get("mask") else {}
        return {"given": {"input_image": data["input"], **mask}, **kept}

    @property
    def input(self) -> InputRecord:
        """What the run is called after: the picture, the words or the mesh."""
        return next(iter(self.given.values()))

    @property
    def stage_seconds(self) -> float:
        """What its own stages took: all attempts of all goes that came to an end. Without loading,
        which in a batch is done once for many pictures."""
        return sum(row.seconds for node in self.nodes.values() for row in node.attempts)

    @property
    def degraded(self) -> dict[str, str]:
        """Node -> what its result lacks, for the nodes whose result lacks something."""
        return {name: node.degraded for name, node in self.nodes.items() if node.degraded}

    @property
    def warnings(self) -> dict[str, list[str]]:
        """Node -> what its stage warned of, for the nodes that did."""
        return {name: node.warnings for name, node in self.nodes.items() if node.warnings}
