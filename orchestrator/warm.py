"""Whether warm starts can work here, and the environment of every child."""

from __future__ import annotations

import os
import sys
from pathlib import Path

REPO_ROOT = Path(__file__).resolve().parent.parent


def supported() -> str:
    """ "" where warm starts can work, else the reason why not."""
    if sys.platform != "linux":
        # macOS forks unsafely once system frameworks are loaded; Windows has no fork.
        return f"fork is not used on {sys.platform}"
    return ""


def child_environment() -> dict[str, str]:
    """The environment of every child: our packages importable, CUDA checks that do not touch it."""
    environment = dict(os.environ)
    paths = [str(REPO_ROOT), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))  # bin/ has named it already
    # Without it torch.cuda.is_available() initialises CUDA and a forked child cannot use it.
    environment["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    environment["PYTHONUNBUFFERED"] = "1"
    return environment
