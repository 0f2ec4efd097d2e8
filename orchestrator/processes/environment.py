"""Whether warm starts can work here, and the environment of every child."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import MutableMapping
from pathlib import Path

_HUB_TOKEN = re.compile(r"(HF|HUGGING_?FACE)\w*_(TOKEN|TOKEN_PATH|KEY|SECRET)", re.IGNORECASE)
"""HF_TOKEN, HUGGING_FACE_HUB_TOKEN, HUGGINGFACEHUB_API_TOKEN, HF_API_KEY, ..."""
REPO_ROOT = Path(__file__).resolve().parents[2]


def supported() -> str:
    """ "" where warm starts can work, else the reason why not."""
    if sys.platform != "linux":
        # macOS forks unsafely once system frameworks are loaded; Windows has no fork.
        return f"fork is not used on {sys.platform}"
    return ""


def child_environment() -> dict[str, str]:
    """The environment of every child: our packages importable, CUDA checks that do not touch it.

    Without the hub's tokens, in variables or in the file that `models login` writes: only the
    parent downloads, and a stage may be anybody's code.
    """
    environment = {k: v for k, v in os.environ.items() if not _HUB_TOKEN.fullmatch(k)}
    environment["HF_TOKEN_PATH"] = os.devnull
    environment["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
    paths = [str(REPO_ROOT), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))  # bin/ has named it already
    # Without it torch.cuda.is_available() initialises CUDA and a forked child cannot use it.
    environment["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    environment["PYTHONUNBUFFERED"] = "1"
    # Matrices of numpy and scipy are small here. With a thread for each core in each process, of
    # these and of torch, 16 sketches beside each other kept 50 threads busy on 16 cores.
    environment.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Torch's threads wait for each other by turning round and round, which keeps who is awaited
    # from its turn: on two busy cores a sketch's ISOMER took 37 and 50 s so, 14 and 15 s asleep.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    keep_bytecode(environment)
    return environment


def keep_bytecode(environment: MutableMapping[str, str]) -> None:
    """Where no bytecode is wanted beside sources, as containers often have it, and libraries came
    without any, keep it in the virtual environment, as `bin/` does.

    Else each template and stage process compiles all that it imports: numba and scipy take 1.9 s of
    CPU in place of 0.7, and a whole sketch 1.2 times as much (two cores, 2026-11-30).
    """
    unwanted = environment.get("PYTHONDONTWRITEBYTECODE")
    if not unwanted or environment.get("PYTHONPYCACHEPREFIX"):
        return
    library = importlib.util.find_spec("numpy")
    comes_along = library is not None and library.cached and os.path.exists(library.cached)
    is_ours = sys.prefix != sys.base_prefix and os.access(sys.prefix, os.W_OK)
    if is_ours and not comes_along:
        del environment["PYTHONDONTWRITEBYTECODE"]
        environment["PYTHONPYCACHEPREFIX"] = os.path.join(sys.prefix, "bytecode")
