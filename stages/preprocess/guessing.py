"""Which guess a setting of `background` stands for, and the network that guesses share."""

from __future__ import annotations

import numpy as np

from stages.contract import StageError
from stages.preprocess.guess import (
    Eye,
    Guess,
    Guesser,
    best_guess,
    guess_by_colours,
    guess_by_network,
)
from stages.preprocess.learned import Network, Seen, load_network, look


class Guessing:
    """Keep one for a process's lifetime: the network is read when it is first needed."""

    def __init__(self) -> None:
        self._network: Network | None = None

    def network(self) -> Network:
        """Raises `StageError` of kind missing_weights in an installation without its weights."""
        if self._network is None:
            try:
                self._network = load_network()
            except (OSError, ValueError) as error:
                raise StageError(
                    "missing_weights",
                    f"the network that comes with the program cannot be read: {error}",
                    "install the program again, or use the preprocess param background=auto",
                ) from error
        return self._network

    def guesser(self, background: str) -> Guesser:
        """What guesses where no backdrop is plain, for the param `background`."""

        def by_network(rgb: np.ndarray) -> Guess:
            return guess_by_network(rgb, self.network())

        def best(rgb: np.ndarray) -> Guess:
            try:
                network = self.network()
            except StageError:  # a stripped package does without, and says so
                return guess_by_colours(rgb, "missing")
            return best_guess(rgb, network)

        if background == "network":
            return by_network
        return best if background == "auto" else guess_by_colours

    def eye(self, background: str) -> Eye | None:
        """What is asked beside a plain backdrop, for the param `background`."""

        def see(rgb: np.ndarray) -> Seen | None:
            try:
                return look(rgb, self.network())
            except StageError:
                return None

        return see if background == "auto" else None
