"""Which side does each further picture show? For pictures that were given without saying it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations, permutations

from stages.preprocess.alike import SIDES, Side
from stages.preprocess.likeness import Look, as_side, mirrored_overlap

AS_NAMED = 0.03
"""Overlap of outlines by which another reading must be better than the order of the pictures."""
TOLD_APART = 0.02
"""Share by which the colours must differ to say more of left and right than the order does."""
SURE, LIKELY = 0.2, 0.1
"""Margins, of 1, from which a reading is called so."""


@dataclass(frozen=True)
class Reading:
    """What the pictures are taken for.

    roles    name under which a picture was given -> what it shows
    margins  the same names -> by how much that is better than the next best, 0 to 1
    """

    roles: dict[Side, Side]
    margins: dict[Side, float]

    def in_words(self) -> Iterator[str]:
        """One text a picture, in the order in which they were given."""
        for number, (given, role) in enumerate(self.roles.items(), start=2):
            margin = self.margins[given]
            sure = "sure" if margin >= SURE else "likely" if margin >= LIKELY else "a guess"
            yield f"picture {number} is the {role} ({sure}, margin {margin:.2f})"


def read_roles(front: Look, given: Mapping[Side, Look]) -> Reading:
    """What each of one to three pictures shows, in the order in which they were given."""
    names = [name for name in SIDES if name in given]
    scored = {kind: _outline_score(kind, names, front, given) for kind in _kinds(len(names))}
    kinds, *others = sorted(scored, key=lambda kind: -scored[kind])
    outline_margin = min(1.0, scored[kinds] - max(scored[kind] for kind in others))
    roles: dict[Side, Side] = {}
    margins: dict[Side, float] = {}
    back = next((name for name, is_back in zip(names, kinds, strict=True) if is_back), None)
    if back is not None:
        roles[back], margins[back] = "back", outline_margin
    sides = [name for name in names if name != back]
    if sides:
        order, margin = _left_and_right(sides, front, given, back)
        for name, role in zip(sides, order, strict=True):
            roles[name], margins[name] = role, min(margin, outline_margin)
    return Reading({n: roles[n] for n in names}, margins)


def _kinds(count: int) -> list[tuple[bool, ...]]:
    """All ways in which `count` pictures may be the back (True) or a side, at most two of these."""
    one_back = [tuple(i == back for i in range(count)) for back in range(count)]
    return one_back + ([(False,) * count] if count < len(SIDES) else [])


def _outline_score(
    kind: tuple[bool, ...], names: list[Side], front: Look, given: Mapping[Side, Look]
) -> float:
    """How well outlines fit to a way of reading the pictures; the first in `SIDES`' order is the
    back where nothing speaks against it."""
    score = AS_NAMED if kind[0] else 0.0
    for name, is_back in zip(names, kind, strict=True):
        likeness = mirrored_overlap(given[name], front)
        # As good as the back as bad as a side, for which half of that is what one may expect.
        score += likeness if is_back else 0.75
    sides = [name for name, is_back in zip(names, kind, strict=True) if not is_back]
    for one, other in combinations(sides, 2):
        score += mirrored_overlap(given[one], given[other]) - 0.75
    return score


def _left_and_right(
    sides: list[Side], front: Look, given: Mapping[Side, Look], back: Side | None
) -> tuple[tuple[Side, ...], float]:
    """Roles of one or two pictures of sides, and by how much they are better than the others."""
    seen_back = given[back] if back is not None else None
    costs = {name: as_side(given[name], front, seen_back) for name in sides}
    pair: tuple[Side, Side] = ("left", "right")

    def cost(order: tuple[Side, ...]) -> float:
        return sum(costs[name][pair.index(role)] for name, role in zip(sides, order, strict=True))

    orders = sorted(permutations(pair, len(sides)), key=cost)
    best, next_best = cost(orders[0]), cost(orders[1])
    margin = (next_best - best) / max(next_best + best, 1e-6)
    if margin >= TOLD_APART:
        return orders[0], margin
    if len(sides) == 1 and sides[0] in pair:
        return (sides[0],), margin
    return pair[: len(sides)], margin
