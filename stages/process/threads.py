"""How many CPU threads the libraries of a stage process compute with."""

from __future__ import annotations

import os
import sys

OWN_SETTING = "OMP_NUM_THREADS"
"""Read by OpenMP's libraries when they are loaded: torch and what is built like it."""


def keep_to(threads: int) -> None:
    """Have torch and OpenCV compute in so many threads, whether they are there already, as behind
    a fork, or come with the stage. A stage may take fewer for a part of its work.

    Left to themselves they take one for each core, and in a batch there is a process for each.
    """
    os.environ[OWN_SETTING] = str(threads)
    for name, setter in (("torch", "set_num_threads"), ("cv2", "setNumThreads")):
        set_threads = getattr(sys.modules.get(name), setter, None)
        if set_threads is not None:
            set_threads(threads)
