"""What the hub's client and the libraries below it log, kept off the screen.

What went wrong is told once, by the error that they raise. Only that a request is made again is
known nowhere else: that is told in this program's words.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import urllib.parse
import warnings
from collections.abc import Callable

_FAILED = re.compile(r"(?s)'(?P<reason>.*)' thrown while requesting \w+ (?P<url>\S+)")
_REFUSED = re.compile(r"HTTP Error (?P<status>\d+) thrown while requesting \w+ (?P<url>\S+)")
_BROKE_OFF = re.compile(r"Error while downloading from (?P<url>\S+): (?P<reason>.*)\nTrying to")
_AGAIN = re.compile(r"Retrying in|Rate limited\. Waiting (?P<seconds>[\d.]+)s")
"""How huggingface_hub 2 words it. Were it to change that, a retry would go untold."""


def take_over(trying_again: Callable[[str], None] = lambda text: None) -> None:
    """From now on nothing that a library logs or warns of is printed, at no level.

    trying_again  hears of each request that is made again, from the thread that makes it
    """
    import huggingface_hub.utils.logging  # noqa: F401 (sets its handler and level when imported)

    logger = logging.getLogger("huggingface_hub")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
    logger.addHandler(_Retries(trying_again))
    logger.setLevel(logging.WARNING)
    logger.propagate = False
    if not logging.getLogger().handlers:
        # Without any handler Python itself prints what libraries that have none log.
        logging.getLogger().addHandler(logging.NullHandler())
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def host_of(url: str) -> str:
    """scheme://host[:port] of a URL, without a password in it."""
    parts = urllib.parse.urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def again(server: str, reason: object, seconds: str = "") -> str:
    """The line that a request is made again."""
    when = f" in {seconds} s" if seconds else ""
    return f"{server} does not answer as it should ({reason}): trying again{when}"


class _Retries(logging.Handler):
    """Reads the two records of a retry, both of one thread: what failed, and that it waits."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell
        self._failed = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if broke := _BROKE_OFF.match(text):
            self._tell(again(host_of(broke["url"]), _first_line(broke["reason"])))
        elif failed := _FAILED.match(text):
            self._failed.told = (host_of(failed["url"]), _first_line(failed["reason"]))
        elif refused := _REFUSED.match(text):
            self._failed.told = (host_of(refused["url"]), f"status {refused['status']}")
        elif (waits := _AGAIN.match(text)) and (told := getattr(self._failed, "told", None)):
            server, reason = told
            self._tell(again(server, reason, (waits["seconds"] or "").removesuffix(".0")))


def _first_line(reason: str) -> str:
    return reason.strip().partition("\n")[0] or "no reason given"
