"""The HTTP client of huggingface_hub, which all requests go through, and the network's settings."""

from __future__ import annotations

import os
import sys
import urllib.parse
from collections.abc import Callable
from typing import TypeVar

from orchestrator.errors import UsageError

T = TypeVar("T")
_AGAIN = 20
"""Calls of one request; each needs another thread whose connection fails just then."""


def require_client() -> None:
    """Make the HTTP client that all requests share: it reads the network's settings once.

    Raises `UsageError` that names the setting which it cannot work with.
    """
    from huggingface_hub import get_session

    try:
        get_session()
    except OSError as error:  # of files with certificates
        names = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # the first is read before the other
        files = (f"{name}={os.environ[name]}" for name in names if os.environ.get(name))
        raise UsageError(
            f"{next(files, 'this machine')} has no certificates that can be read: "
            f"{error.strerror or error}",
            "name a file in PEM format, or unset it",
        ) from error
    except Exception as error:  # the client has an exception of its own for each fault
        found = proxies()
        socks = [proxy for proxy in found if "=socks" in proxy]
        if isinstance(error, ImportError) and socks:
            raise UsageError(
                f"{', '.join(socks)}: the package socksio, which SOCKS proxies need, is missing",
                f"{sys.executable} -m pip install socksio (the extra [socks] of this program), "
                "or name an HTTP proxy",
            ) from error
        raise UsageError(
            f"the proxy cannot be used ({', '.join(found) or 'none is set'}): {error}",
            "HTTPS_PROXY=http://host:port",
        ) from error


def with_client(call: Callable[[], T]) -> T:
    """What `call` returns; it is called again where another thread closed the client under it.

    huggingface_hub has one client for all threads, and closes it when a connection fails in any.
    """
    for _ in range(_AGAIN - 1):
        try:
            return call()
        except (AttributeError, RuntimeError) as error:
            if not was_closed(error):
                raise
    return call()


def was_closed(error: Exception) -> bool:
    """Whether a request failed because another thread has just closed the client of all."""
    text = str(error)
    return (isinstance(error, RuntimeError) and "client has been closed" in text) or (
        isinstance(error, AttributeError) and text.startswith("'NoneType' object has no attribute")
    )


def proxies() -> list[str]:
    """The proxies that are set, without the passwords in them."""
    found = []
    for name, value in os.environ.items():
        if name.upper() in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") and value:
            address = urllib.parse.urlsplit(value)
            found.append(f"{name}={address.scheme}://{address.netloc.rpartition('@')[2]}")
    return sorted(found)
