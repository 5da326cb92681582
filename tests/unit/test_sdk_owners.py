"""A client that looks for the owner of a home whose region is gone."""

from __future__ import annotations

import pytest

from everlode.errors import Unavailable
from everlode.sdk import owners
from everlode.sdk.owners import Owners
from everlode.settings.endpoints import Endpoints


class Away:
    """A follower of a control log that nobody answers for."""

    tries = 0

    def __init__(self, _: str) -> None:
        Away.tries += 1

    def start(self, _: float) -> Away:
        raise Unavailable("nobody answers")

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("pause_s", "tries"), [(60.0, 1), (0.0, 3)])
def test_control_log_that_is_away_is_looked_for_after_a_pause_only(
    monkeypatch: pytest.MonkeyPatch, pause_s: float, tries: int
) -> None:
    monkeypatch.setattr(owners, "ControlFollower", Away)
    monkeypatch.setattr(owners, "PAUSE_S", pause_s)
    monkeypatch.setattr(Away, "tries", 0)
    found = Owners(Endpoints.model_construct(control_bootstrap="127.0.0.1:1", regions={}))
    for _ in range(3):
        found.look()
    assert Away.tries == tries
    assert found.of("tasks", "eu") == "eu"
    found.close()
