"""The five fates of an error: its class says what the caller does next.

Invariants: every error that crosses a module border is one of these; a library's own errors are
translated once, in the adapter. Pure.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import ClassVar


class EverlodeError(Exception):
    """Base of all. `code` is stable and machine-readable; `hint` is the way out for an operator."""

    exit_code: ClassVar[int] = 1
    default_code: ClassVar[str] = "error"

    def __init__(self, message: str, *, code: str | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint

    def as_dict(self) -> dict[str, str]:
        """The shape that `--json` prints under `error`."""
        return {"code": self.code, "message": self.message, "hint": self.hint}


class Refusal(EverlodeError):
    """The caller's fault: the request breaks a rule. Never retried as it is."""

    default_code = "refused"


class Stale(Refusal):
    """Decided on an old state: refold once and decide again."""

    default_code = "stale"


class FencedOut(Refusal):
    """The caller no longer holds the scope: step down, never retry with this epoch."""

    default_code = "fenced"


class NotFound(Refusal):
    """A thing that was named does not exist."""

    exit_code = 10
    default_code = "not_found"


class Locked(Refusal):
    """Another operation of this kind runs."""

    exit_code = 11
    default_code = "locked"


class Precondition(Refusal):
    """A precondition or a confirmation is missing."""

    exit_code = 14
    default_code = "precondition"


class ContractError(EverlodeError):
    """Bytes do not fit the contract: quarantine them and go on (on the control log: halt)."""

    default_code = "contract"


class Unavailable(EverlodeError):
    """A part does not answer now: retry within one deadline."""

    default_code = "unavailable"


class OutcomeUnknown(Unavailable):
    """A write may or may not have happened: read the log's end, or write it again under its id."""

    default_code = "unknown"

    def __init__(self, message: str, *, hint: str = "", event_id: str = "") -> None:
        super().__init__(message, hint=hint)
        self.event_id = event_id
        """The event that it was about, where it was one."""


class DeadlineExceeded(Unavailable):
    """The one deadline of the operation has passed."""

    exit_code = 124
    default_code = "timeout"


class IntegrityError(EverlodeError):
    """What is stored contradicts itself: never trust, never skip; stop and say so."""

    exit_code = 13
    default_code = "integrity"


class WrongKey(IntegrityError):
    """The key does not open what it should."""

    exit_code = 12
    default_code = "wrong_key"


class ConfigError(EverlodeError):
    """A setting, file or argument is wrong: names it, what was expected and the way out."""

    exit_code = 2
    default_code = "config"


def unforeseen(what: str, error: Exception) -> ContractError:
    """A mistake of ours over one input (`what`), as what its reader keeps that for.

    It names the error's kind and where it was raised; never its text, which may quote anything.
    """
    frames = traceback.extract_tb(error.__traceback__)
    last = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return ContractError(f"{what}: {type(error).__name__}{last}", code="internal")
