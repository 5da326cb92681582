"""Where an aggregate may be created: at the home that its id begins with. Pure."""

from __future__ import annotations

from collections.abc import Container

from everlode.events import commands as c
from everlode.events.base import Command, Envelope
from everlode.events.identity import home_of_id, is_stray, qualified
from everlode.state.shape import home_of, refuse

CREATING = (c.SubmitTask, c.RegisterMiner, c.OpenFraudCase)
"""Commands from outside that begin an aggregate."""


def strays(envelope: Envelope, regions: Container[str]) -> bool:
    """True for a fact about what is at home elsewhere, by its id: it has no effect anywhere."""
    return is_stray(envelope.aggregate_id, home_of(envelope), regions)


def check_home(aggregate_id: str, home: str) -> None:
    """Of what there is not. Raises: Refusal: by its id it is at home elsewhere."""
    elsewhere = home_of_id(aggregate_id)
    if elsewhere not in ("", home):
        raise refuse(
            "not_at_home",
            f"{aggregate_id} is at home in {elsewhere}, this is {home}",
            f"send it to region {elsewhere}, or name it {home}/…",
        )


def check_qualified(command: Command, aggregate_id: str, home: str) -> None:
    """Of an id without a home, of what there is not. Raises: Refusal: it is asked for from outside.

    What a primary derives from an aggregate of an older log has none either.
    """
    if isinstance(command, CREATING):
        raise refuse(
            "bad_name",
            f"{aggregate_id} does not begin with its home",
            f"name it {qualified(home, aggregate_id)}",
        )
