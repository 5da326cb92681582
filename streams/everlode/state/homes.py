"""Where an aggregate may be created: at the home that its id begins with. Pure."""

from __future__ import annotations

from everlode.events import commands as c
from everlode.events.base import Command
from everlode.events.identity import home_of_id, qualified
from everlode.state.shape import refuse

CREATING = (
    c.SubmitTask,
    c.RegisterMiner,
    c.RequestValidation,
    c.OpenFraudCase,
    c.CalculateReward,
    c.CollectSlash,
)
"""Commands that begin an aggregate."""


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
    """Of what there is not, asked for from outside. Raises: Refusal: its id has no home.

    What a primary derives from an aggregate of an older log has none either.
    """
    if isinstance(command, CREATING) and not home_of_id(aggregate_id):
        raise refuse(
            "bad_name",
            f"{aggregate_id} does not begin with its home",
            f"name it {qualified(home, aggregate_id)}",
        )
