"""Which files of a run directory are this program's: those that its record names, and no others.

    run.json, events.jsonl, the picture's copy
    <node>/          what the node's stage may write, a PNG beside each artifact, attempt-N.log,
                     preview-NAME.png
    <node>/inline/   the same, written by `stage --inline`
    result/          the files that `result_folder` puts there, and exports

and what was being written when a process was killed (.NAME.1a2b3c4d.part). All else was put there
by somebody else, and is left alone: files of other names, links, folders.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator

from orchestrator.record.manifest import NodeRecord
from orchestrator.record.result_folder import RESULT_NAMES
from orchestrator.record.run_directory import (
    ATTEMPT_LOGS,
    EVENTS,
    INLINE,
    MANIFEST,
    RESULT,
    RunDirectory,
)
from orchestrator.record.stage_pictures import PICTURE
from orchestrator.system.inside import Entry
from orchestrator.system.locks import LOCK_FILES
from orchestrator.system.places import LinkError, is_temporary
from stages.contract import codec
from stages.contract.registry import BrokenStageError, UnknownStageError, stage_class


def node_files(run: RunDirectory) -> dict[str, Entry]:
    """Path below the run directory -> each file in its nodes' folders."""
    found: dict[str, Entry] = {}
    for node in _nodes(run):
        names = _names(run, node)
        for folder in (node, f"{node}/{INLINE}"):
            found |= _listed(run, folder, names)
    return found


def node_folders(run: RunDirectory) -> list[str]:
    """The folders of `node_files`, inner ones first."""
    return [folder for node in _nodes(run) for folder in (f"{node}/{INLINE}", node)]


def all_files(run: RunDirectory) -> dict[str, Entry]:
    """As `node_files`, of the whole run; run.json comes last, so that a failure leaves a run."""
    manifest = run.manifest
    top = {MANIFEST, EVENTS, *(one.file for one in manifest.given.values())}
    result = {*RESULT_NAMES, *manifest.exports}
    found = node_files(run) | _listed(run, RESULT, result) | _listed(run, "", top)
    record = found.pop(MANIFEST, None)
    return found if record is None else {**found, MANIFEST: record}


def space(files: Iterable[Entry]) -> int:
    """Bytes that removing all of these gives back: none for a file that keeps another name, as
    those do that a run shares with one that took them over."""
    found = list(files)
    here = Counter(file.inode for file in found)
    sizes = {file.inode: file.size for file in found if here[file.inode] >= file.names}
    return sum(sizes.values())


def remove(run: RunDirectory, intermediate: bool = False) -> int:
    """Remove them all, or those of the nodes alone; the bytes that this gave back.

    Folders with something foreign in them stay, and so do links in the place of folders.
    """
    files = node_files(run) if intermediate else all_files(run)
    for file in files:
        run.inside.remove(file)
    for folder in node_folders(run) if intermediate else [*node_folders(run), RESULT]:
        with contextlib.suppress(LinkError):
            run.inside.remove_folder(folder)
    return space(files.values())


def foreign(run: RunDirectory) -> list[str]:
    """What else lies in the run directory, a folder without anything of ours as one."""
    return sorted(_foreign(run, "", {*all_files(run), *LOCK_FILES}))


def _foreign(run: RunDirectory, folder: str, ours: set[str]) -> Iterator[str]:
    known = {RESULT, *node_folders(run)}
    for entry in run.inside.entries(folder):
        path = _below(folder, entry.name)
        if path in known and entry.is_folder:
            yield from _foreign(run, path, ours)
        elif path not in ours:
            yield path


def _nodes(run: RunDirectory) -> list[str]:
    return list({**run.manifest.nodes, **run.manifest.former})


def _names(run: RunDirectory, node: str) -> set[str]:
    """The files that a node may have written, whatever has become of its record since."""
    names = set()
    for record in (run.manifest.nodes.get(node), run.manifest.former.get(node)):
        if record is not None:
            names |= _recorded(record)
            with contextlib.suppress(BrokenStageError, UnknownStageError):
                for spec in stage_class(record.stage).outputs:
                    names |= {*codec.file_names(spec), f"{spec.name}.png"}
    return names


def _recorded(record: NodeRecord) -> set[str]:
    files = {item.file for records in record.artifacts.values() for item in records}
    return files | {f"{name}.png" for name in record.artifacts}


def _listed(run: RunDirectory, folder: str, names: set[str]) -> dict[str, Entry]:
    return {
        _below(folder, entry.name): entry
        for entry in run.inside.entries(folder)
        if entry.is_file
        and (
            entry.name in names
            or is_temporary(entry.name)
            or (folder and (ATTEMPT_LOGS.fullmatch(entry.name) or PICTURE.fullmatch(entry.name)))
        )
    }


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
