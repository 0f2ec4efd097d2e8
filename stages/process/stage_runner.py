"""One stage and its jobs, without any transport: read inputs, run, check, write outputs.

`stages.process.child` puts this behind a socket, `--job` behind a file, and the parent's inline
mode calls it directly, so a stage behaves the same in all three.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from stages.contract import ArtifactSpec, Context, ContractError, Stage, StageError, codec
from stages.contract.registry import stage_class
from stages.process.protocol import Done, Part

MAX_WARNING = 1000
"""Characters of one warning that are kept."""


@dataclass(frozen=True)
class OutputFile:
    """One file of an output: its content in memory, or a finished temporary file."""

    file: str
    size: int
    content: bytes | None = None
    temp: str = ""


@dataclass(frozen=True)
class JobResult:
    """Outputs by artifact name, and the seconds that reading, computing and writing took.

    warnings, degraded  what the stage told through `Context.warn`, without and with its flag
    """

    outputs: dict[str, list[OutputFile]]
    timings: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)

    def message(self, job: str, peaks: Mapping[str, int]) -> tuple[Done, bytes]:
        """What tells the parent of it: the message, and the contents of small files behind it."""
        contents = bytearray()
        outputs: dict[str, list[Part]] = {}
        for name, files in self.outputs.items():
            outputs[name] = []
            for file in files:
                start = -1 if file.content is None else len(contents)
                contents += file.content or b""
                outputs[name].append(
                    Part(file=file.file, size=file.size, start=start, temp=file.temp)
                )
        done = Done(
            job=job,
            outputs=outputs,
            timings=self.timings,
            peaks=dict(peaks),
            warnings=self.warnings,
            degraded=self.degraded,
        )
        return done, bytes(contents)


class StageRunner:
    """Load a stage once, run it for many jobs.

    inline_max_bytes: up to so many bytes of a job's outputs stay in memory; the rest is written.
    """

    def __init__(self, stage_name: str, inline_max_bytes: int) -> None:
        self._class = stage_class(stage_name)
        self._inline_max_bytes = inline_max_bytes
        self._stage: Stage | None = None
        self._context = Context()

    def load(self, params: Mapping[str, Any], context: Context) -> None:
        """Validate params and load the model.

        Raises what the stage raises, and StageError (bad_input) for params that it does not have
        and for float16 on the CPU.
        """
        try:
            validated = self._class.Params.model_validate(dict(params))
        except ValidationError as error:
            raise StageError("bad_input", f"params of {self._class.name}: {error}") from error
        if context.device == "cpu" and context.dtype == "float16":
            raise StageError(
                "bad_input",
                f"{self._class.name} cannot compute in float16 on the CPU",
                "set dtype: float32 or bfloat16 in this node's attempts",
            )
        stage = self._class(validated)
        stage.load(context)
        self._stage, self._context = stage, context

    def run(
        self,
        inputs: Mapping[str, Sequence[Path]],
        folder: Path,
        scratch: Path,
        seed: int,
        progress: Callable[..., None],
        previews: int = 0,
        preview: Callable[[str, Any], None] = Context.preview,
    ) -> JobResult:
        """One job: files in, files out. Raises what the stage raises, or `ContractError`.

        seed, progress, previews, preview: see `Context`.
        """
        if self._stage is None:
            raise StageError("internal", "run before load")
        began = time.perf_counter()
        values = codec.as_inputs(self._class.inputs, inputs)
        warnings: list[str] = []
        costs: list[str] = []

        def warn(text: str, *, degraded: bool = False) -> None:
            told = costs if degraded else warnings
            if text not in told:
                told.append(text[:MAX_WARNING])

        context = replace(
            self._context,
            scratch=scratch,
            seed=seed,
            progress=progress,
            warn=warn,
            previews=previews,
            preview=preview,
        )
        read = time.perf_counter()
        outputs = self._stage.run(values, context)
        computed = time.perf_counter()
        files = self._write(outputs, folder)
        written = time.perf_counter()
        return JobResult(
            files,
            {"read": read - began, "compute": computed - read, "write": written - computed},
            warnings,
            costs,
        )

    def output_spec(self, name: str) -> ArtifactSpec:
        return next(spec for spec in self._class.outputs if spec.name == name)

    def close(self) -> None:
        if self._stage is not None:
            self._stage.close()
            self._stage = None

    def _write(self, outputs: Mapping[str, Any], folder: Path) -> dict[str, list[OutputFile]]:
        if not isinstance(outputs, Mapping):
            raise ContractError(f"run returned {type(outputs).__name__}, no mapping of its outputs")
        promised = {spec.name for spec in self._class.outputs}
        if surplus := sorted(set(outputs) - promised):
            raise ContractError(f"output {surplus[0]} is not declared")
        files: dict[str, list[OutputFile]] = {}
        room = self._inline_max_bytes
        for spec in self._class.outputs:
            if spec.name not in outputs:
                if spec.optional:
                    continue
                raise ContractError(f"output {spec.name} was not returned")
            value = outputs[spec.name]
            spec.check(value)
            files[spec.name] = []
            for name, payload in codec.payloads(spec, value):
                file = self._output_file(folder, name, payload, room)
                room -= len(file.content or b"")
                files[spec.name].append(file)
        return files

    def _output_file(self, folder: Path, name: str, payload: Any, room: int) -> OutputFile:
        """One file, in memory where that has no more than `room` bytes, else written."""
        if codec.payload_size(payload) <= room:
            content = codec.payload_bytes(payload)
            if len(content) <= room:
                return OutputFile(name, len(content), content=content)
        # Exclusively made, under a name that nobody can guess: no link lies in its place.
        temp = folder / f".{name}.{secrets.token_hex(4)}.part"
        with temp.open("xb") as stream:
            codec.write_payload(stream, payload)
            size = stream.tell()
        return OutputFile(name, size, temp=temp.name)
