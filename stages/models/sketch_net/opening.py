"""The network for a stage that can do without it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from stages.contract import StageError

if TYPE_CHECKING:
    import numpy as np

    from stages.models.sketch_net.predict import Sketch

See = Callable[["np.ndarray"], "Sketch"]
"""(256, 256, 3) uint8 sRGB -> what the network says of it."""


def open_or_say_why(weights: Path, required: bool, without: str) -> tuple[See | None, str]:
    """The network, or None and why it cannot be read.

    required  that it cannot be read is an error: StageError (missing_weights)
    without   the setting that does without the network, for that error's hint
    """
    from stages.models.sketch_net.predict import load_network, sketch

    try:
        network = load_network(weights)
    except (OSError, ValueError) as error:
        if required:
            raise StageError(
                "missing_weights",
                f"the sketch's network cannot be read: {error}",
                f"install the program again, which brings it, or --set {without}",
            ) from error
        return None, str(error)
    return functools.partial(sketch, network), ""


def missing(told: str, why_not: str) -> str:
    """The warning of a stage that goes on without the network: silhouettes alone tell `told`."""
    return (
        f"silhouettes alone tell {told}, as the sketch's network is not there ({why_not}); "
        "install the program again, which brings it"
    )
