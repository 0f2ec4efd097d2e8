"""Ask a child for one JSON answer: what needs torch, or may crash, is not done in the parent."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.processes.environment import child_environment
from orchestrator.system.exit_codes import describe_exit


class NoAnswerError(Exception):
    """The child ended, or was ended, without an answer.

    how         exit code or signal in words, or that its time was over
    last_words  the last line of its stderr, or ""
    late        its time was over
    """

    def __init__(self, how: str, last_words: str = "", late: bool = False) -> None:
        super().__init__(f"{how}: {last_words}" if last_words else how)
        self.how = how
        self.last_words = last_words
        self.late = late


def ask(
    arguments: Sequence[str],
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> dict[str, Any]:
    """Run this Python with `arguments`; the last line of stdout is the answer, a JSON object.

    environment: default `child_environment()`. timeout: seconds. Raises `NoAnswerError`.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-P", *arguments],
            env=child_environment() if environment is None else environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NoAnswerError(f"no answer in {timeout:.0f} s", late=True) from None
    how = describe_exit(done.returncode)
    if done.returncode < 0:  # whatever it said, and what else it said is no explanation
        raise NoAnswerError(how)
    try:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        answer = None
    if not isinstance(answer, dict):
        raise NoAnswerError(how, "".join(done.stderr.strip().splitlines()[-1:]))
    return answer
