"""Every error that a user can meet: what happened, to whom, what to do next, which exit code.

Exit codes: 2 the request cannot be done as given (bad input, unknown name, taken directory),
1 the work was begun and failed, 130 interrupted (129 and 143: by SIGHUP and SIGTERM).

    KissError                    1
      UsageError                 2   nothing was started
        ConfigError                  a profile, a config file, --set
        UnknownNameError             a name that nothing has; the nearest is named
        InputFileError               the picture, or another file that was named
        OutputError                  where results should go
        RunLockedError               another process works in this run directory
        RunRecordError               a run directory cannot be read
          NewerRecordError           a newer version has written it
        MissingWeightsError          weights that are needed and not here
      DownloadError                  weights that could not be brought here
      ProtocolError                  a process said what is no message
      RunFailedError                 a run or batch in which something failed
        StageFailedError             a single stage
      InterruptedRunError      130   Ctrl-C and its like; it can be resumed
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


class KissError(Exception):
    """Base of all errors that are shown without a traceback."""

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  -> {self.hint}" if self.hint else self.message

    def facts(self) -> dict[str, Any]:
        """What a program may want of it besides the texts: more keys of the --json document."""
        return {}


class UsageError(KissError):
    """The request cannot be carried out as given; nothing was started.

    setting: dotted path of the setting that is wrong, if one is.
    """

    exit_code = 2
    setting: str = ""


class ConfigError(UsageError):
    """A profile, a user file or a --set cannot be understood."""


MOST_NAMES = 16
"""More than these are not listed in a message where a command shows them."""


class UnknownNameError(UsageError):
    """A profile, node, stage, param or run that does not exist; names the nearest that does."""

    def __init__(
        self,
        what: str,
        name: str,
        known: Iterable[str],
        where: str = "",
        listing: str = "",
        meant: str = "",
    ) -> None:
        """listing: the command that shows all that are known, with what they are.

        meant: what the name is instead, with what to type, where that is known.
        """
        self.name = name
        self.known = sorted(known)
        near = nearest(name, self.known)
        hint = f'did you mean "{near}"? ' if near else ""
        if listing and len(self.known) > MOST_NAMES:
            hint += f"`{listing}` shows what there is"
        else:
            hint += f"known: {', '.join(self.known)}" if self.known else "there are none"
            hint += f" (`{listing}` says what they are)" if listing else ""
        place = f" in {brief(where)}" if where else ""
        super().__init__(f'unknown {what} "{brief(name)}"{place}', meant or hint)


class InputFileError(UsageError):
    """An input file is missing, unreadable or too large to be considered."""


class OutputError(UsageError):
    """The output directory cannot be used."""


class RunLockedError(UsageError):
    """Another process is working in this run directory."""


class RunRecordError(UsageError):
    """A directory holds no run, or its run.json cannot be read."""


class NewerRecordError(RunRecordError):
    """A run.json that a newer version of this program has written."""


class MissingWeightsError(UsageError):
    """Weights that the work needs are not on this machine; nothing was started.

    missing: {"name", "gb", "nodes"} of each
    """

    def __init__(self, message: str, hint: str, missing: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(message, hint)
        self.missing = [dict(row) for row in missing]

    def facts(self) -> dict[str, Any]:
        return {"missing_weights": self.missing}


class DownloadError(KissError):
    """A file could not be downloaded, or is not what its publisher states."""


class RunFailedError(KissError):
    """At least one job did not reach its end."""


class StageFailedError(RunFailedError):
    """A stage that was run by itself failed. log: None where it ran in this process."""

    def __init__(
        self, subject: str, stage: str, kind: str, message: str, hint: str, log: Path | None
    ) -> None:
        where = f"\n  log: {log}" if log else ""
        super().__init__(f"{subject}: stage {stage} failed ({kind}): {message}{where}", hint)
        self.stage, self.kind, self.log = stage, kind, log

    def facts(self) -> dict[str, Any]:
        return {"stage": self.stage, "kind": self.kind, "log": str(self.log or "")}


class InterruptedRunError(KissError):
    """The user or the system asked the run to stop. exit_code: 128 + the number of the signal."""

    def __init__(self, message: str, hint: str = "", exit_code: int = 130) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code


def command(*words: object) -> str:
    """This program's command line of these words, for hints: a shell takes them as they are."""
    return shlex.join(["kiss3d-orchestrate", *map(str, words)])


def brief(text: object, limit: int = 160) -> str:
    """A text as it can stand in a sentence: of a long one its beginning and its end."""
    told = str(text)
    return told if len(told) <= limit else f"{told[: limit // 2]}…{told[-limit // 4 :]}"


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that `name` was probably meant to be, or ""."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), "")
