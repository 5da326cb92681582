"""What nobody foresaw while a primary decided: a mistake of ours, which must not stop it. Pure.

Deciding is pure, so the same input fails in the same way each time: to read it again is no way out.
It is answered, kept as a dead letter, and passed over; what it would have led to is not staged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from everlode.errors import ContractError, FencedOut, Refusal, Unavailable, unforeseen

PASSES = (Unavailable, FencedOut)
"""What says nothing of the input: it may be decided later, or by another."""


class Unexpected(Refusal):
    """The refusal of what could not be decided; `letter` says where it went wrong."""

    default_code = "internal"

    def __init__(self, what: str, letter: ContractError) -> None:
        super().__init__(
            f"{what} could not be decided, by a mistake of ours",
            hint="nothing has changed; it is kept as a dead letter: report it with its id",
        )
        self.letter = letter


class SetAside(Unexpected):
    """The refusal of what has ended one process after another; `ended`: these."""

    default_code = "set_aside"

    def __init__(self, what: str, ended: Sequence[str]) -> None:
        text = f"{what}: processes that ended with it in hand: {', '.join(ended)}"
        super().__init__(what, ContractError(text, code=self.default_code))


def attempt(what: str, decide: Callable[[], object]) -> Unexpected | None:
    """Decide; what goes wrong as a value. `what`: the input, with its id.

    Raises: Unavailable, FencedOut.
    """
    try:
        decide()
    except PASSES:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it follows from this input
        return Unexpected(what, unforeseen(what, error))
    return None
