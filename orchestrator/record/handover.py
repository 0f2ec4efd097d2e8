"""What a stage process hands over, put in its place: nothing that the process says is trusted."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestrator.record.manifest import FileRecord
from orchestrator.system.inside import Inside
from orchestrator.system.places import LinkError
from stages.contract import ArtifactSpec, codec
from stages.process.protocol import Part, ProtocolError


def accept_outputs(
    inside: Inside,
    folder: str,
    specs: Sequence[ArtifactSpec],
    outputs: Mapping[str, Sequence[Part]],
    contents: bytes,
) -> dict[str, list[FileRecord]]:
    """Put all outputs of a job in `folder`, and return their records by artifact name.

    specs: what the stage promises; contents: of the files that rode in its message. Raises
    `ProtocolError` for an output that is not promised or is missing, `ContractError` or OSError.
    """
    if surplus := set(outputs) - {spec.name for spec in specs}:
        raise ProtocolError(f"{folder} handed over {min(surplus)}, which it does not have")
    accepted = {}
    for spec in specs:
        if spec.name in outputs:
            parts = outputs[spec.name]
            accepted[spec.name] = accept_artifact(inside, folder, spec, parts, contents)
        elif not spec.optional:
            raise ProtocolError(f"{folder} did not hand over {spec.name}")
    return accepted


def accept_artifact(
    inside: Inside, folder: str, spec: ArtifactSpec, parts: Sequence[Part], contents: bytes
) -> list[FileRecord]:
    """Put the files of one artifact in `folder`.

    File names must be those of the spec, sizes and .npy headers must fit. Raises `ProtocolError`,
    `ContractError` or OSError.
    """
    allowed = list(codec.file_names(spec))
    inside.make_folder(folder)
    records = []
    for part in parts:
        if part.file not in allowed:
            raise ProtocolError(f"{folder} handed over a file that it may not write: {part.file}")
        allowed.remove(part.file)  # each one once
        if part.start >= 0:
            _accept_content(inside, folder, spec, part, contents)
        else:
            _accept_temporary(inside, folder, spec, part)
        records.append(FileRecord(file=part.file, size=part.size))
    missing = set(codec.required_files(spec)) - {record.file for record in records}
    if missing:
        raise ProtocolError(f"{folder} did not hand over {min(missing)}")
    return records


def _accept_content(
    inside: Inside, folder: str, spec: ArtifactSpec, part: Part, contents: bytes
) -> None:
    content = contents[part.start : part.start + part.size]
    if len(content) != part.size:
        raise ProtocolError(f"{part.file}: its content is missing or has another size")
    if part.file.endswith(".npy"):
        codec.check_header(spec, part.file, io.BytesIO(content), part.size)
    inside.write(f"{folder}/{part.file}", content, durable=False)


def _accept_temporary(inside: Inside, folder: str, spec: ArtifactSpec, part: Part) -> None:
    if Path(part.temp).name != part.temp or not part.temp.startswith("."):
        raise ProtocolError(f"{part.file}: not a temporary file's name: {part.temp}")
    try:
        stream = inside.read(f"{folder}/{part.temp}")
    except (FileNotFoundError, IsADirectoryError, LinkError, ValueError):
        raise ProtocolError(f"{part.file}: the file is missing or has another size") from None
    with stream:
        if stream.seek(0, io.SEEK_END) != part.size:
            raise ProtocolError(f"{part.file}: the file is missing or has another size")
        stream.seek(0)
        if part.file.endswith(".npy"):
            codec.check_header(spec, part.file, stream, part.size)
    inside.rename(f"{folder}/{part.temp}", part.file)
