"""Numba kernels that keep working where numba's defaults do not.

Kernels release the GIL and are called from ordinary Python threads: numba's own threading layers
do not survive a fork, and stage processes are forked from a warm template.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile `function` on first use; the result is cached on disk where a folder is writable.

    Arguments should come from `plain_array`: a read-only or strided array is another type to
    numba and would be compiled for again.
    """
    import numba

    try:
        compiled = numba.njit(function, cache=True, nogil=True)
    except RuntimeError:  # "no locator available": neither __pycache__ nor the home is writable
        compiled = numba.njit(function, nogil=True)
    return cast(F, compiled)


def plain_array(values: Any, dtype: Any) -> np.ndarray:
    """`values` as a C-contiguous, writable base-class array of `dtype` (copied only if needed)."""
    return np.require(values, dtype, ["C", "A", "W", "E"])
