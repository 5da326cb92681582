"""One record that cannot be applied is found, and the others are: a batch is applied in halves.

    1 2 3 4 5 6 7 8   refused as a whole         of n records one is bad: about 2 log n calls
    1 2 3 4           applied
            5 6 7 8   refused
            5 6       applied
                7 8   refused
                7     applied
                  8   refused, and alone: it is the one

Only `ContractError` is a record's own fault: a store that does not answer, or contradicts itself,
ends the batch by another error, and nobody is blamed. Pure, but for what the callables do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from everlode.errors import ContractError

T = TypeVar("T")
R = TypeVar("R")


def in_halves(
    items: Sequence[T],
    apply: Callable[[Sequence[T]], R],
    refuse: Callable[[Sequence[T], ContractError], R],
) -> Iterator[R]:
    """What the calls gave that took all items between them, in order; to be iterated to the end.

    `apply` takes all that it is given, or raises ContractError and has changed nothing. What it
    refuses of one item (or of none) goes to `refuse`. Raises: whatever else the two raise, at once.
    """
    try:
        done = apply(items)
    except ContractError as error:
        if len(items) <= 1:
            yield refuse(items, error)
            return
    else:
        yield done
        return
    half = len(items) // 2
    yield from in_halves(items[:half], apply, refuse)
    yield from in_halves(items[half:], apply, refuse)


def first_refused(most: int, applies: Callable[[int], bool]) -> int:
    """The number, 1 to `most`, of the first item with which a prefix does not apply any more.

    `applies(n)` says whether the first n do; all of them do not, none does.
    """
    good, bad = 0, most
    while bad - good > 1:
        middle = (good + bad) // 2
        if applies(middle):
            good = middle
        else:
            bad = middle
    return bad
