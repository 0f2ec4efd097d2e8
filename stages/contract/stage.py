"""What a stage is: typed inputs and outputs, a params model and three methods.

A stage knows nothing of processes, sockets, paths, retries or other stages. The same class runs in
a child process, inline under a debugger and in a test, so everything that it may touch arrives
through `run(inputs, context)`.

This module is imported by the parent to read contracts, so it imports nothing heavy: numpy only
when a value is checked, torch never.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["array", "image", "mesh", "text", "file"]
"""How a value looks in memory:

array   numpy array of any number kind
image   numpy array (H, W, C) or (N, H, W, C), uint8 in [0, 255] or float32 in [0, 1], sRGB values
mesh    `Mesh`
text    str
file    bytes of a complete file (`ArtifactSpec.suffix` names its format)
"""

FailureKind = Literal[
    "bad_input",
    "missing_weights",
    "missing_dependency",
    "out_of_memory",
    "gpu_unavailable",
    "gpu_fault",
    "crashed",
    "timed_out",
    "disk_full",
    "internal",
]


class StageError(Exception):
    """A failure that a stage understands well enough to name.

    Anything else that a stage raises is classified by the host (`internal` at worst).
    """

    def __init__(self, kind: FailureKind, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint


class BadInput(StageError):  # noqa: N818 (reads as a fact: raise BadInput)
    """The job's own input cannot be used: retrying would not help, other jobs are unaffected."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__("bad_input", message, hint)


class ContractError(ValueError):
    """A value does not have the kind, shape, dtype or range that its spec promises."""


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in frame W (y up, front towards +z).

    vertices  (V, 3) float32
    faces     (F, 3) int32, counter-clockwise seen from outside
    colors    (V, 3) uint8 sRGB, or None
    """

    vertices: np.ndarray
    faces: np.ndarray
    colors: np.ndarray | None = None


@dataclass(frozen=True)
class ArtifactSpec:
    """The promise about one named value that passes between stages.

    shape         one entry a dimension: an int is fixed, a name is free, and the same name twice
                  means the same size ("S", "S", 3). Ignored for mesh, text and file.
    dtype         numpy dtype name, "" for any
    value_range   inclusive (low, high) of the numbers, None for any
    suffix        of a file on disk, for kind "file" only
    filename      the whole name on disk, for kind "file" only; default: name + suffix
    optional      an input that the stage can do without
    """

    name: str
    kind: Kind
    doc: str
    shape: tuple[int | str, ...] = ()
    dtype: str = ""
    value_range: tuple[float, float] | None = None
    suffix: str = ""
    optional: bool = False
    filename: str = ""

    def check(self, value: object) -> None:
        """Raise `ContractError` unless `value` is what this spec promises."""
        if self.kind == "text":
            self._require(isinstance(value, str), value, "a str")
        elif self.kind == "file":
            self._require(isinstance(value, bytes), value, "bytes")
        elif self.kind == "mesh":
            self._check_mesh(value)
        else:
            self._check_array(value)

    def _require(self, ok: bool, value: object, wanted: str) -> None:
        if not ok:
            raise ContractError(f"{self.name}: expected {wanted}, got {_describe(value)}")

    def _check_array(self, value: object) -> None:
        import numpy as np

        if not isinstance(value, np.ndarray) or value.dtype.hasobject:
            raise ContractError(f"{self.name}: expected an array, got {_describe(value)}")
        self.check_layout(value.shape, value.dtype)
        if value.dtype.kind == "f" and not bool(np.isfinite(value).all()):
            raise ContractError(f"{self.name}: contains NaN or infinity")
        if self.value_range is not None and value.size:
            low, high = float(value.min()), float(value.max())
            if low < self.value_range[0] or high > self.value_range[1]:
                raise ContractError(
                    f"{self.name}: values span [{low:g}, {high:g}], "
                    f"expected within [{self.value_range[0]:g}, {self.value_range[1]:g}]"
                )

    def check_layout(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        """Hold an array's shape and dtype to the spec. Raises `ContractError`."""
        got = f"{dtype} {_format_shape(shape)}"
        if self.dtype and (dtype.name != self.dtype or not dtype.isnative):
            raise ContractError(f"{self.name}: expected dtype {self.dtype}, got {got}")
        if not self.shape:
            return
        sizes: dict[str, int] = {}
        fits = len(shape) == len(self.shape) and all(
            actual == (wanted if isinstance(wanted, int) else sizes.setdefault(wanted, actual))
            for wanted, actual in zip(self.shape, shape, strict=True)
        )
        if not fits:
            wanted_shape = _format_shape(self.shape)
            raise ContractError(f"{self.name}: expected shape {wanted_shape}, got {got}")

    def mesh_parts(self) -> tuple[ArtifactSpec, ArtifactSpec, ArtifactSpec]:
        """What a mesh of this name promises of its vertices, faces and colours."""
        return (
            ArtifactSpec(f"{self.name}.vertices", "array", "", ("V", 3), "float32"),
            ArtifactSpec(f"{self.name}.faces", "array", "", ("F", 3), "int32"),
            ArtifactSpec(f"{self.name}.colors", "array", "", ("V", 3), "uint8"),
        )

    def _check_mesh(self, value: object) -> None:
        import numpy as np

        if not isinstance(value, Mesh):
            raise ContractError(f"{self.name}: expected a Mesh, got {_describe(value)}")
        vertices, faces, colors = self.mesh_parts()
        vertices.check(value.vertices)
        faces.check(value.faces)
        count = len(value.vertices)
        if value.colors is not None:
            replace(colors, shape=(count, 3)).check(value.colors)
        if len(value.faces) == 0:
            raise ContractError(f"{self.name}: the mesh has no faces")
        if int(np.min(value.faces)) < 0 or int(np.max(value.faces)) >= count:
            raise ContractError(f"{self.name}: a face names a vertex outside 0..{count - 1}")


def _format_shape(shape: Sequence[int | str]) -> str:
    return "(" + ", ".join(str(size) for size in shape) + ")"


def _describe(value: object) -> str:
    shape = getattr(value, "shape", None)
    if shape is None:
        return type(value).__name__
    return f"{getattr(value, 'dtype', '')} {_format_shape(tuple(shape))}".strip()


class Params(BaseModel):
    """Base of a stage's params model: every field has a default and a description."""

    # An infinite one could not be written to run.json, which JSON is.
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _no_progress(step: int, total: int, note: str = "") -> None:
    pass


def _no_warning(text: str, *, degraded: bool = False) -> None:
    pass


def _no_preview(name: str, pixels: np.ndarray) -> None:
    pass


@dataclass(frozen=True)
class Context:
    """What a stage may use besides its inputs.

    device    "cpu" or "cuda:0" (the leased card is always number 0 in the child)
    dtype     "float32", "float16" or "bfloat16"; a stage on the CPU never sees "float16"
    seed      this job's, and the only source of randomness: global generators are not to be used.
              One process may serve jobs of several seeds, so `load` is not to look at it
    threads   CPU threads that the stage should keep to
    scratch   an empty folder of its own, removed after the job
    progress  progress(step, total, note="") with 0 <= step <= total, from any thread
    warn      warn(text, degraded=False): what a person should know of this job's result. It is
              shown while the run goes and at its end, and stays in the record; degraded: the
              result is worse than it should be, and is labelled so
    previews  how many pictures of the work people would like to see on the way; 0: none
    preview   preview(name, pixels): one of them, (H, W, 3) uint8 sRGB, small; name: of a-z, 0-9 and
              "-". More than were asked for are dropped. Nothing that a stage hands over may depend
              on either
    vram_bytes  what the process may take of the card, its CUDA context included; 0: all of it.
              The host caps torch's allocator to it before `load`
    host_bytes  host memory that the stage may fill with weights; 0: as much as it likes

    Budgets say where weights lie, never what comes out.
    """

    device: str = "cpu"
    dtype: str = "float32"
    seed: int = 42
    threads: int = 2
    scratch: Path = field(default_factory=Path)
    progress: Callable[..., None] = _no_progress
    warn: Callable[..., None] = _no_warning
    previews: int = 0
    preview: Callable[[str, np.ndarray], None] = _no_preview
    vram_bytes: int = 0
    host_bytes: int = 0


class Stage(ABC):
    """One model behind three methods. Class attributes are the contract that the parent reads.

    name      registry name, e.g. "preprocess", "hull.reference"
    version   raise it when the same inputs and params give another output: it is in the cache key
    summary   one line for `stages list`
    inputs    what `run` gets, by name
    outputs   what `run` returns, by name, all of them
    Params    the params model
    preload   modules that a warm template imports before forking this stage (never a module
              that initialises CUDA or may crash, so never pytorch3d); `preloads` may take less
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    summary: ClassVar[str]
    inputs: ClassVar[tuple[ArtifactSpec, ...]]
    outputs: ClassVar[tuple[ArtifactSpec, ...]]
    Params: ClassVar[type[Params]] = Params
    preload: ClassVar[tuple[str, ...]] = ("numpy",)

    def __init__(self, params: Any) -> None:
        self.params = params

    @classmethod
    def preloads(cls, params: Any) -> tuple[str, ...]:
        """Those of `preload` that these params are likely to need."""
        return cls.preload

    @classmethod
    def weights(cls, params: Any) -> tuple[str, ...]:
        """Names in configs/models.yaml that a process with these params will load, or paths that
        the params name. The parent asks before it starts anything
        (`stages.weights.catalogue.locate`)."""
        return ()

    @classmethod
    def optional_weights(cls, params: Any) -> tuple[str, ...]:
        """As `weights`, of what is loaded only where it is on this machine."""
        return ()

    @classmethod
    def spares_weights(cls, params: Any, given: Collection[str]) -> bool:
        """Whether a job loads none of `weights` that has these inputs of the user's own."""
        return False

    @classmethod
    def costs(cls, params: Any) -> str:
        """What these params give up of a result for speed, in a few words; "" for nothing. `plan`
        shows it beforehand; by how much is for `Context.warn` to tell, where a job can measure."""
        return ""

    @classmethod
    def uses_seed(cls, params: Any) -> bool:
        """Whether `run` may draw from `context.seed` with these params. Where a stage says no,
        another seed takes its result from the cache."""
        return True

    def load(self, context: Context) -> None:  # noqa: B027 (a stage without a model needs none)
        """Import what is heavy and put the model where `context.device` says."""

    @abstractmethod
    def run(self, inputs: Mapping[str, Any], context: Context) -> Mapping[str, Any]:
        """Turn one job's inputs into outputs. May be called many times after one `load`."""

    def close(self) -> None:  # noqa: B027
        """Release what process exit would not (temporary files, sessions)."""
