"""Runs of which only the result is kept: the files of their nodes go when they are done.

The nodes' records stay, with the digests of what they made. So it is known of such a run that it
is done, and what with, but nothing can be computed from it: `--set` and `--from` begin anew.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from orchestrator.pipeline.graph import Graph
from orchestrator.record import belongings
from orchestrator.record.cache import CacheIndex, keys_of, node_key
from orchestrator.record.result_folder import RESULT_FILES, mesh_files
from orchestrator.record.run_directory import RESULT, RunDirectory
from stages.contract.glb import HEADER


def let_go(run: RunDirectory, cache: CacheIndex | None) -> None:
    """Remove the files of a run's nodes, if it is done and only its result is to be kept.

    A run without a mesh in its result (`--until`) has what it was made for in its nodes: it keeps
    them. The record says so before anything goes: whatever dies in between loses nothing that is
    said to be there. Raises OSError.
    """
    manifest = run.manifest
    if manifest.keep == "all" or manifest.state != "done" or not _meshes(run):
        return
    if manifest.kept != manifest.keep:
        manifest.kept = manifest.keep
        run.save()
    if cache is not None:
        cache.forget(run)
    belongings.remove(run, intermediate=True)


def is_settled(run: RunDirectory, graph: Graph, force: Collection[str] = ()) -> bool:
    """Whether only the result of a run is left, and that is what these nodes would make.

    force: nodes that are to be computed whatever there is.
    """
    manifest = run.manifest
    if manifest.kept == "all" or force:
        return False
    for name, node in graph.nodes.items():
        record = manifest.nodes.get(name)
        if record is None or record.state != "done":
            return False
        if node_key(node, manifest.seed, run) not in keys_of(record):
            return False
    made = {artifact for record in manifest.nodes.values() for artifact in record.artifacts}
    wanted = set(mesh_files(manifest.kept, made).values())
    return bool(wanted) and wanted <= _meshes(run)


def begin_anew(run: RunDirectory) -> None:
    """Let no record of a run of which only the result is left promise files that are gone."""
    if run.manifest.kept == "all":
        return
    for name, record in run.manifest.nodes.items():
        if record.state == "done" and (why := run.intact(name)):
            record.state, record.reason = "pending", why
    run.manifest.kept = "all"


def _meshes(run: RunDirectory) -> set[str]:
    """The mesh files in its result, without those that end in the middle. They may be others than
    were made: they are the user's to edit."""
    entries = [entry for entry in run.inside.entries(RESULT) if entry.is_file and entry.size]
    whole = {entry.name for entry in entries if not _is_cut(run.path / RESULT / entry.name)}
    return whole & set(RESULT_FILES.values())


def _is_cut(path: Path) -> bool:
    """Whether a .glb file is shorter than it says itself, or cannot be read."""
    if path.suffix != ".glb":
        return False
    try:
        with path.open("rb") as stream:
            head = stream.read(HEADER.size)
            length = stream.seek(0, os.SEEK_END)
    except OSError:
        return True
    return len(head) == HEADER.size and HEADER.unpack(head)[2] > length
