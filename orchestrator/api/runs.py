"""`Run` and `Batch`: what the functions of the package give back."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.api.arguments import require_listener
from orchestrator.api.request import Request
from orchestrator.api.work import Decided, Work
from orchestrator.errors import (
    InterruptedRunError,
    RunFailedError,
    RunRecordError,
    UsageError,
)
from orchestrator.record.result_folder import PREVIEW_PNG, RESULT_FILES
from orchestrator.record.run_directory import RESULT, RunDirectory
from orchestrator.record.summary import state_now
from orchestrator.running.run_events import RunEvent

if TYPE_CHECKING:
    import trimesh
    from PIL import Image

    from orchestrator.record.manifest import Manifest


class _Working(ABC):
    """Something with a directory, in which a worker may be at work."""

    def __init__(self, path: Path | None = None, work: Work | None = None) -> None:
        self._path = path
        self._work = work

    @property
    def path(self) -> Path:
        """Its directory, absolute. Waits the moment until that is made; raises the error of a
        request that was refused before."""
        if self._path is None:
            assert self._work is not None
            self._work.wait_opened()
            self._path = self._work.heard.path
            if self._path is None:
                self._work.wait()
                raise self._work.heard.error or RunFailedError("it ended without a run directory")
        return self._path

    @property
    def done(self) -> bool:
        """Whether nothing works in it any more, on this side: it may have failed."""
        return self._work is None or self._work.over

    @property
    def decided(self) -> Decided | None:
        """Profile and nodes, as soon as they are decided; None for one that was opened."""
        return self._work.heard.decided if self._work else None

    def cancel(self) -> bool:
        """Stop the work, as Ctrl-C does; whether there was any.

        Returns at once; `wait` returns when the stage has ended and its card is free. What is
        finished stays, and `resume` goes on from there. A second call stops at once whatever hangs.
        """
        if self._work is None or self._work.over:
            return False
        self._work.stop()
        return True

    def _wait(self, timeout: float | None) -> None:
        if self._work is None:
            return
        if not self._work.wait(timeout):
            raise TimeoutError(f"not done within {timeout:g} s; it goes on")
        if error := self._work.heard.error:
            raise error

    def _repr_html_(self) -> str:
        from orchestrator.api.notebook import as_html

        return as_html(self._page)

    @abstractmethod
    def _page(self) -> bytes:
        """The page of what it made, for a notebook."""


class Run(_Working):
    """One run: its directory, and what is in it.

    Everything is read when it is asked for, so that a run that goes on shows what it has by then.
    """

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """A run that is there already. Raises `RunRecordError`."""
        return cls(RunDirectory.open(Path(path)).path.resolve())

    def wait(self, timeout: float | None = None) -> Run:
        """The run itself, when it is done.

        Raises the error that it ended with: `RunFailedError`, `InterruptedRunError` after `cancel`,
        `UsageError` for what was refused; TimeoutError after so many seconds, while it goes on.
        """
        self._wait(timeout)
        return self

    @property
    def state(self) -> str:
        """ "running", "done", "failed" or "interrupted"; of one that never began, one of the last
        two."""
        if self._work is not None and not self._work.over:
            return "running"
        if self._nowhere:
            return "interrupted" if self._was_stopped else "failed"
        return state_now(self._directory)

    @property
    def manifest(self) -> Manifest:
        """The whole of its run.json, as it is now."""
        return self._directory.manifest

    @property
    def files(self) -> dict[str, Path]:
        """Name -> path of each file of its result: mesh.glb, mesh.obj, preview.png, ..."""
        entries = self._directory.inside.entries(RESULT)
        return {
            entry.name: self.path / RESULT / entry.name
            for entry in entries
            if entry.is_file and not entry.name.startswith(".")
        }

    @property
    def mesh(self) -> trimesh.Trimesh:
        """Its mesh with texture or colours, read from result/mesh.glb."""
        import trimesh

        loaded = trimesh.load_scene(self._file(RESULT_FILES["glb"]))
        mesh = loaded.to_geometry()
        assert isinstance(mesh, trimesh.Trimesh)
        return mesh

    @property
    def preview(self) -> Image.Image:
        """Its result/preview.png: what each stage has made, in one picture."""
        from PIL import Image

        with Image.open(self._file(PREVIEW_PNG)) as picture:
            picture.load()
            return picture

    def _file(self, name: str) -> Path:
        files = self.files
        if name not in files:
            raise RunRecordError(
                f"{self.path} has no {RESULT}/{name} ({self.state})",
                "`resume` goes on with a run that is not done",
            )
        return files[name]

    @property
    def _directory(self) -> RunDirectory:
        return RunDirectory.open(self.path)

    def _page(self) -> bytes:
        from orchestrator.report.pictures import pictures_of
        from orchestrator.report.run_page import report_html

        run = self._directory
        return report_html(run, pictures_of(run))

    def __repr__(self) -> str:
        if not self._nowhere:
            return f"<Run {self.state}: {self.path}>"
        if not self.done:
            return "<Run beginning>"
        return f"<Run {'stopped before it began' if self._was_stopped else 'refused'}>"

    @property
    def _nowhere(self) -> bool:
        """Whether it has no directory, yet or at all."""
        return self._path is None and self._work is not None and self._work.heard.path is None

    @property
    def _was_stopped(self) -> bool:
        return self._work is not None and isinstance(self._work.heard.error, InterruptedRunError)


class Batch(_Working):
    """A batch: a run for each job. It is over when all have ended, well or not."""

    def __init__(
        self,
        path: Path | None = None,
        work: Work | None = None,
        rows: Sequence[dict[str, Any]] = (),
    ) -> None:
        """rows: its outcomes, where no work has them."""
        super().__init__(path, work)
        self._rows = list(rows)

    def wait(self, timeout: float | None = None) -> Batch:
        """The batch itself, when it is over: `failed` names jobs that did not make it.

        Raises `InterruptedRunError`, `UsageError`, TimeoutError as `Run.wait` does.
        """
        self._wait(timeout)
        return self

    @property
    def runs(self) -> dict[str, Run]:
        """Name of a job -> its run, of those that have one."""
        from orchestrator.commands.shards import places

        found: dict[str, Run] = {}
        if not self.path.exists():  # a shard without a part in the list
            return found
        for name, path in places(self.path).items():
            try:
                found[name] = Run.open(path)
            except RunRecordError:
                continue
        return found

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        """A row for each job as in summary.json, when it is over; empty for one opened."""
        return self._work.heard.outcomes if self._work else self._rows

    @property
    def best(self) -> Run | None:
        """Of candidates, the run that agrees best with what was given, when they are over; None
        where none has a score, and of other batches."""
        from orchestrator.commands.candidates import best_name

        name = best_name(self.path)
        return self.runs.get(name) if name else None

    @property
    def failed(self) -> dict[str, str]:
        """Name of a job -> why it has no mesh."""
        return {row["name"]: row["error"] for row in self.outcomes if row["state"] != "done"}

    def __repr__(self) -> str:
        told = f"{len(self.outcomes)} jobs" if self.done else "running"
        return f"<Batch {told}: {self.path}>"

    def _page(self) -> bytes:
        from orchestrator.commands.pages import index_html

        return index_html(self.path)


def begin(
    kind: type[Run] | type[Batch],
    request: Request,
    on_event: Callable[[RunEvent], None] | None,
    on_decided: Callable[[Decided], None] | None = None,
) -> Run | Batch:
    """The work in a worker that a thread listens to."""
    require_listener(on_event)
    work = Work(request, on_event, on_decided)
    name = f"kiss3d worker {work.pid}"
    threading.Thread(target=work.listen, name=name, daemon=True).start()
    return kind(None, work)


def carry_out(
    kind: type[Run] | type[Batch],
    request: Request,
    on_event: Callable[[RunEvent], None] | None,
) -> Run | Batch:
    """The same, listened to here and now, until it is over. Ctrl-C stops the work first.

    Raises what `wait` raises.
    """
    require_listener(on_event)
    work = Work(request, on_event)
    work.listen()
    error = work.heard.error
    if isinstance(error, KeyboardInterrupt) and work.heard.path is not None:
        error.add_note(f"kiss3d.resume({str(work.heard.path)!r}) goes on with it")
    return kind(None, work).wait()


def settings_as_sets(settings: Mapping[str, Any] | None) -> tuple[str, ...]:
    """`{"isomer.stage2_steps": 2}`, or `{"isomer": {"stage2_steps": 2}}`, as `--set`s.

    Raises `UsageError` for what is no mapping, and for a key that is no text.
    """
    import json

    if settings is not None and not isinstance(settings, Mapping):
        raise UsageError(f"settings: {settings!r} is no mapping", 'say {"node.param": value}')
    found: list[str] = []
    for name, value in (settings or {}).items():
        if not isinstance(name, str):
            raise UsageError(f"settings: {name!r} is no name", 'say {"node.param": value}')
        if isinstance(value, Mapping) and "." not in name:
            found += [f"{name}.{one}" for one in settings_as_sets(value)]
        else:
            # JSON is YAML, as long as its letters stay letters.
            found.append(f"{name}={json.dumps(value, ensure_ascii=False, default=str)}")
    return tuple(found)
