"""Who may use which card and how many CPU stages may compute at once."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.system.gpu import Card


class Leases:
    """A GPU is leased to one process at a time; a CPU slot to one computing job at a time."""

    def __init__(self, cards: Sequence[Card], cpu_slots: int) -> None:
        self.cards = tuple(cards)
        self._free_cards = list(cards)
        self._free_slots = cpu_slots

    @property
    def free_cards(self) -> int:
        return len(self._free_cards)

    def take_card(self) -> Card | None:
        return self._free_cards.pop(0) if self._free_cards else None

    def return_card(self, card: Card) -> None:
        self._free_cards.append(card)

    def take_slot(self) -> bool:
        if self._free_slots == 0:
            return False
        self._free_slots -= 1
        return True

    def return_slot(self) -> None:
        self._free_slots += 1
