"""Where a home's commands go when its region is fenced: to whoever has taken its scopes.

Nobody is asked while answers come. Once a command has waited for a while the control log is
followed; until it says that the home is fenced and its scope taken, commands go to the home. Shell.
"""

from __future__ import annotations

import time
from contextlib import suppress

from everlode.adapters.kafka_follower import ControlFollower
from everlode.control.scopes import Scope
from everlode.errors import EverlodeError
from everlode.settings.endpoints import Endpoints

START_S = 5.0
PAUSE_S = 20.0
"""After a try in vain: who looks has commands to send again meanwhile."""


class Owners:
    """Of one client. `look` by one thread, `of` by any."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        self._follower: ControlFollower | None = None
        self._not_before = 0.0

    def look(self) -> bool:
        """Whether a region is fenced, as far as is known: else every home has its own commands.

        Begins to follow the control log, unless that is done; waits for it, without an error.
        """
        if self._follower is None:
            self._begin()
        return self._follower is not None and bool(self._follower.state.fences)

    def _begin(self) -> None:
        if self._endpoints.control_bootstrap is None or time.monotonic() < self._not_before:
            return
        follower = ControlFollower(self._endpoints.control_bootstrap)
        with suppress(EverlodeError):
            self._follower = follower.start(START_S)
            return
        follower.close()
        self._not_before = time.monotonic() + PAUSE_S

    def of(self, component: str, home: str) -> str:
        """The region that serves a home's scope of a component, as far as it is known."""
        if self._follower is None:
            return home
        control = self._follower.state
        led = control.scopes.get(str(Scope(component, home))) if control.fences else None
        known = led is not None and led.primary and led.region in self._endpoints.regions
        return led.region if led is not None and known else home

    def close(self) -> None:
        """Leave."""
        if self._follower is not None:
            self._follower.close()
