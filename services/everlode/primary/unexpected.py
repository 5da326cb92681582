"""What nobody foresaw while a primary decided: a mistake of ours, which must not stop it. Pure.

Deciding is pure, so the same input fails in the same way each time: to read it again is no way out.
It is answered, kept as a dead letter, and passed over; what it would have led to is not staged.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from everlode.errors import ContractError, FencedOut, Refusal, Unavailable

PASSES = (Unavailable, FencedOut)
"""What says nothing of the input: it may be decided later, or by another."""


class Unexpected(Refusal):
    """The refusal of what could not be decided; `letter` says where it went wrong."""

    default_code = "internal"

    def __init__(self, what: str, where: str) -> None:
        super().__init__(
            f"{what} could not be decided, by a mistake of ours",
            hint="nothing has changed; it is kept as a dead letter: report it with its id",
        )
        self.letter = ContractError(f"{what}: {where}", code=self.code)


class SetAside(Unexpected):
    """The refusal of what has ended one process after another; `ended`: these."""

    default_code = "set_aside"

    def __init__(self, what: str, ended: Sequence[str]) -> None:
        super().__init__(what, f"processes that ended with it in hand: {', '.join(ended)}")


def attempt(what: str, decide: Callable[[], object]) -> Unexpected | None:
    """Decide; what goes wrong as a value. `what`: the input, with its id.

    Raises: Unavailable, FencedOut.
    """
    try:
        decide()
    except PASSES:
        raise
    except Exception as error:  # noqa: BLE001 - whatever it is, it follows from this input
        return Unexpected(what, _where(error))
    return None


def _where(error: Exception) -> str:
    """Kind of an error and where it was raised; never its text, which may quote anything."""
    frames = traceback.extract_tb(error.__traceback__)
    last = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{last}"
