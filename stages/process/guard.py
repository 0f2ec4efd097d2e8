"""The guard: stands between the parent and all that it starts, and outlives it (Linux).

    parent ──> guard ──> template ──> (forks)
                 ├─────> stage process ──> its helpers
                 └─────> stage process ...

Started by the parent as `python -P -m stages.process.guard CHANNEL TEMPLATE FOLDER`: one end of a
socket pair for the guard, one for the template (-1: none), and the parent's private folder. Every
stage process, warm or cold, is the guard's child, and so is every helper whose stage has ended,
whatever session it has made: the kernel gives orphans to the guard. It ends such helpers at once,
and everything when it is told to or the parent dies, however that may be. The folder it removes
then, since a parent may die behind its last word, unless another guard is to use it.

The channel carries JSON lines; what the template says is passed on as it is:

    parent -> guard      {"start": name, "command": [...], "log": existing file, "env": {...}}
                         {"end": true, "keep": whether the folder stays}
    guard -> parent      {"template": pid}
                         {"born": name, "pid": n} or with "error"
                         {"exited": pid, "code": n}         a stage process, or the template
                         {"beat": n}                        once a second

It imports and computes next to nothing, so there is nothing that it could hang in.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time

from stages.process.parent_watch import adopt_orphans, children_of, die_with_parent, kill_all

TYPE_CHECKING = False
if TYPE_CHECKING:  # the template waits for this process's imports, so they come behind its fork
    import socket
    from typing import Any

_BEAT_SECONDS = 1.0


class Guard:
    """See the module's docstring. template: its pid and what it is read from, or 0 and -1."""

    def __init__(self, channel: socket.socket, template: int, words: int) -> None:
        self._channel = channel
        self._template = template
        self._words = words
        self._ours = {template} if template else set()
        self._unread = {channel.fileno(): b"", words: b""}
        self._beats = 0
        self._next_beat = 0.0
        self.dismissed = False
        self.keeps_folder = False

    def run(self) -> None:
        """Serve until dismissed, or until the parent's end of the channel is closed."""
        import select

        wake, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        poller = select.poll()
        for descriptor in (self._channel.fileno(), wake, self._words):
            if descriptor >= 0:
                poller.register(descriptor, select.POLLIN)
        if self._template:
            self._tell({"template": self._template})
        self._reap()  # what ended before there was a handler
        while True:
            for descriptor, _ in poller.poll(_BEAT_SECONDS * 1000):
                if descriptor == wake:
                    os.read(wake, 4096)
                    self._reap()
                elif descriptor == self._words:
                    if not self._hear_template():
                        poller.unregister(self._words)
                elif not self._serve():
                    return
            self._beat()

    def _serve(self) -> bool:
        """Do what the parent asks; False when there is no parent any more."""
        try:
            data = self._channel.recv(65536)
        except ConnectionError:
            return False
        for line in self._lines(self._channel.fileno(), data):
            self._obey(line)
        return bool(data) and not self.dismissed

    def _hear_template(self) -> bool:
        """Pass on what the template has said so far; False when it will say nothing more."""
        if self._words < 0:
            return False
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._words, 65536):
                for line in self._lines(self._words, data):
                    self._pass_on(line)
            return False
        return True

    def _lines(self, descriptor: int, data: bytes) -> list[bytes]:
        *lines, self._unread[descriptor] = (self._unread[descriptor] + data).split(b"\n")
        return lines

    def _obey(self, line: bytes) -> None:
        import json

        request = json.loads(line)
        if "start" in request:
            self._start(request)
        else:
            self.dismissed = True
            self.keeps_folder = request["keep"]

    def _start(self, request: dict[str, Any]) -> None:
        """Start a process of the parent's choice, as a group of its own."""
        import subprocess

        guard = os.getpid()

        def prepare() -> None:
            die_with_parent(guard)
            adopt_orphans()  # what daemonises itself lives as long as its stage, and no longer
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)

        try:
            # Not made here: where it is gone, the parent has removed the run meanwhile.
            with os.fdopen(os.open(request["log"], os.O_WRONLY | os.O_APPEND), "wb") as log:
                child = subprocess.Popen(
                    request["command"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **request["env"]},
                    start_new_session=True,
                    preexec_fn=prepare,  # noqa: PLW1509 (this process has one thread)
                )
        except (OSError, subprocess.SubprocessError) as error:
            self._tell({"born": request["start"], "error": str(error)})
            return
        child.returncode = 0  # `_reap` is who waits for it
        self._ours.add(child.pid)
        self._tell({"born": request["start"], "pid": child.pid})

    def _pass_on(self, line: bytes) -> None:
        import json

        word = json.loads(line)
        if "pid" in word:
            self._ours.add(word["pid"])
        self._send(line + b"\n")

    def _reap(self) -> None:
        """Tell who has ended, and end the helpers that were left behind."""
        ended: dict[int, int] = {}
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                ended[found[0]] = found[1]
        if not ended:
            return
        # A forked stage is announced before it becomes our child: behind this all are known.
        self._hear_template()
        for pid, status in ended.items():
            if pid in self._ours:
                self._ours.discard(pid)
                self._tell({"exited": pid, "code": os.waitstatus_to_exitcode(status)})
        orphans = children_of(os.getpid())
        self._hear_template()
        kill_all(orphans - self._ours)

    def _beat(self) -> None:
        import json
        import socket

        if time.monotonic() < self._next_beat:
            return
        self._next_beat = time.monotonic() + _BEAT_SECONDS
        self._beats += 1
        with contextlib.suppress(OSError):  # a parent that reads nothing needs no heartbeat
            word = json.dumps({"beat": self._beats}).encode() + b"\n"
            self._channel.send(word, socket.MSG_DONTWAIT)

    def _tell(self, word: dict[str, Any]) -> None:
        import json

        self._send(json.dumps(word).encode() + b"\n")

    def _send(self, line: bytes) -> None:
        with contextlib.suppress(ConnectionError):  # the loop meets the end of the parent
            self._channel.sendall(line)


def end_all_below() -> None:
    """End every process below this one; none can get away, since this one adopts them."""
    while True:
        kill_all(children_of(os.getpid()))
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.005)


def _fork_template(channel: int, guards: int) -> tuple[int, int]:
    """The template's pid, and the pipe on which it speaks."""
    guard = os.getpid()
    words, words_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(guards)
        os.close(words)
        try:
            die_with_parent(guard)
            from stages.process.fork_template import serve

            serve(channel, words_write, guard)
        except BaseException:  # noqa: BLE001 (nothing may get back into the guard's code)
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(1)
    os.close(words_write)
    os.close(channel)
    os.set_blocking(words, False)
    return pid, words


def main() -> None:
    channel, template_channel, folder = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    adopt_orphans()
    template, words = 0, -1
    if template_channel >= 0:
        template, words = _fork_template(template_channel, channel)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends when the parent does, and not before
    import socket

    guard = Guard(socket.socket(fileno=channel), template, words)
    try:
        guard.run()
    finally:
        end_all_below()
        if not guard.keeps_folder:
            import shutil

            shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)


if __name__ == "__main__":
    main()
