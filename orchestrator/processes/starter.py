"""Starting stage processes, warm or cold, and hearing of their ends.

On Linux the guard does both: it is asked for a cold start, its template for a fork, and it answers
for every end. Elsewhere the parent starts processes itself, cold (`direct.py`).

    start ──> template ──(no answer, refusal, death)──> cold from now on
    start ──> guard    ──(no answer, death)──> all that lived is lost, another guard, cold
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence

from orchestrator.processes.direct import DirectLauncher
from orchestrator.processes.guard import Born, Exited, GuardLink, TemplateGone
from orchestrator.processes.handle import StageProcess
from orchestrator.processes.workspace import Workspace
from orchestrator.system import clock
from stages.process import parent_watch

GUARD_SILENCE_SECONDS = 30.0
"""It beats once a second and does nothing that takes long."""
TEMPLATE_IDLE_SECONDS = 10.0
"""Of no CPU time at all while a fork is waited for: it is stopped or stuck. An import computes, and
from a slow disk it still uses some in each second."""
_POLL_SECONDS = 0.05
"""How often exits are looked for where the system has no pidfd."""
_CLOSE_SECONDS = 5.0


class Starter:
    """The processes that live or are asked for.

    silence        seconds without a word after which the template is given up, though it computes
    watch, unwatch add and remove a descriptor that wakes whoever calls `ended`
    """

    def __init__(
        self,
        workspace: Workspace,
        silence: float,
        watch: Callable[[int], None],
        unwatch: Callable[[int], None],
    ) -> None:
        self._guard: GuardLink | None = workspace.guard
        self._cold_reason = workspace.cold_reason
        self._silence = silence
        self._watch = watch
        self._unwatch = unwatch
        self._direct = DirectLauncher(watch, unwatch)
        self._processes: list[StageProcess] = []
        self._awaited: dict[str, StageProcess] = {}
        self._template_cpu = 0
        self._template_moved = self._asked = 0.0
        if self._guard is not None:
            watch(self._guard.fileno())

    @property
    def parent_pid(self) -> int:
        """The process that children must not outlive."""
        return self._guard.pid if self._guard is not None else os.getpid()

    def preload(self, modules: Sequence[str]) -> None:
        """Have the template import what the next stage needs, behind the present one."""
        if self._guard is not None and not self._cold_reason:
            try:
                self._guard.preload(modules)
            except OSError as error:
                self._go_cold(f"the warm template is gone ({error})")

    def start(self, process: StageProcess, needs: Sequence[str]) -> None:
        """Have it started; `ended` tells it in time if that fails.

        needs: modules that the template imports before it forks this one.
        """
        self._processes.append(process)
        process.warm = self._guard is not None and not self._cold_reason
        if self._guard is None or not process.warm:
            self._start_cold(process)
            return
        if not any(waiting.warm for waiting in self._awaited.values()):
            self._asked = self._template_moved = clock.now()
        name = str(process.connection)
        self._awaited[name] = process
        try:
            self._guard.fork(name, needs, process.log, process.environment)
        except OSError as error:
            self._go_cold(f"the warm template is gone ({error})")

    def _start_cold(self, process: StageProcess) -> None:
        process.warm = False
        process.cold_reason = self._cold_reason
        command = [
            sys.executable,
            "-P",
            "-m",
            "stages.process.child",
            "--connect",
            str(process.connection),
        ]
        try:
            if self._guard is None:
                self._direct.start(process, command)
            else:
                name = f"cold {process.connection}"
                self._awaited[name] = process
                self._guard.start(name, command, process.log, process.environment)
        except ConnectionError:
            return  # `ended` meets the guard's end
        except OSError as error:  # the others go on
            process.unstarted = f"cannot start a process for {process.stage}: {error}"

    @property
    def patience(self) -> float:
        """Seconds until `ended` should be called, at the latest."""
        if any(process.unstarted or self._cancelled(process) for process in self._processes):
            return 0.0
        if self._direct.must_poll:
            return _POLL_SECONDS
        return clock.LOOK_SECONDS

    def ended(self) -> list[StageProcess]:
        """Those that have ended since the last call, or will never exist. Does not block."""
        if self._guard is not None:
            self._hear(self._guard)
        self._direct.collect()
        for process in self._processes:
            if self._cancelled(process):
                # The template may be in the middle of a long import for it, which is not waited
                # for. `_on_born` meets the process.
                process.exit_code = -signal.SIGKILL
        ended = [p for p in self._processes if p.exit_code is not None or p.unstarted]
        for process in ended:
            self._processes.remove(process)
        return ended

    @staticmethod
    def _cancelled(process: StageProcess) -> bool:
        """Told to die before it existed."""
        return process.doomed and not process.pid

    def _hear(self, guard: GuardLink) -> None:
        gone = False
        for word in guard.receive():
            if isinstance(word, Born):
                self._on_born(word)
            elif isinstance(word, Exited):
                for process in self._processes:
                    if process.pid == word.pid:
                        process.exit_code = word.code
            elif isinstance(word, TemplateGone):
                self._go_cold("the warm template died")
            else:
                gone = True
        now = clock.now()
        if gone or now - guard.heard > GUARD_SILENCE_SECONDS:
            self._replace(guard, "died" if gone else "hung")
        elif stuck := self._template_stuck(guard, now):
            self._go_cold(stuck)

    def _on_born(self, word: Born) -> None:
        process = self._awaited.get(word.name)
        if word.error and process is not None and process.warm:
            self._go_cold(word.error)
            return
        self._awaited.pop(word.name, None)
        if word.error:
            if process is not None:
                process.unstarted = f"cannot start a process for {process.stage}: {word.error}"
        elif process is None or process.doomed:  # it was started cold meanwhile, or is not wanted
            parent_watch.kill_all([word.pid])
        else:
            process.pid = word.pid

    def _template_stuck(self, guard: GuardLink, now: float) -> str:
        """Why the template is not to be waited for any longer, or ""."""
        if not any(process.warm for process in self._awaited.values()):
            return ""
        cpu = parent_watch.cpu_ticks(guard.template_pid)
        if cpu != self._template_cpu:
            self._template_cpu, self._template_moved = cpu, now
        if now - self._template_moved > TEMPLATE_IDLE_SECONDS:
            return f"the warm template stood still for {TEMPLATE_IDLE_SECONDS:g} s"
        limit = max(self._silence, TEMPLATE_IDLE_SECONDS)
        if now - max(guard.template_heard, self._asked) > limit:
            return f"the warm template did not answer for {limit:g} s"
        return ""

    def _go_cold(self, reason: str) -> None:
        """From now on start cold; what was forked so far lives on."""
        self._cold_reason = self._cold_reason or reason
        if self._guard is not None:
            self._guard.kill_template()
        waiting = {name: process for name, process in self._awaited.items() if process.warm}
        for name, process in waiting.items():
            del self._awaited[name]
            if not process.doomed:
                self._start_cold(process)

    def _replace(self, guard: GuardLink, what: str) -> None:
        """The guard is lost, and what it had started with it."""
        self._cold_reason = f"the guard of the processes {what}"
        self._awaited.clear()
        for process in self._processes:
            process.exit_code = -signal.SIGKILL
        self._unwatch(guard.fileno())
        self._guard = None
        with contextlib.suppress(OSError):  # no more processes: the parent tries it by itself
            guard.restart()
            self._guard = guard
            self._watch(guard.fileno())

    def close(self) -> None:
        """End every process: the guard does it by itself, beside whatever comes next."""
        if self._guard is not None:
            self._guard.begin_close()
            self._unwatch(self._guard.fileno())
            self._guard = None
        for process in self._processes:
            process.kill()
        deadline = time.monotonic() + _CLOSE_SECONDS
        while self._direct.lives and time.monotonic() < deadline:
            self.ended()
            time.sleep(0.01)
