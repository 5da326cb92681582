"""The gate on the services of the region that is recovered: whether they may go on. Shell.

It is asked right before the switch, once nothing else speaks against that, and a little longer when
they are not well: a failover ends meanwhile, and who is being stopped falls silent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from everlode.health.score import Health
from everlode.recovery.fitness import at_work
from everlode.recovery.journal import RecoveryJournal
from everlode.recovery.request import RecoveryRequest

WAIT_S, AGAIN_S = 20.0, 1.0
STEP = "services"
Ask = Callable[[], Health]
"""The health of the region's services now; a score of None: nobody is at work."""


def ask_services(
    request: RecoveryRequest, ask: Ask, journal: RecoveryJournal, accepted: Collection[str]
) -> Health:
    """Their health, once it passes, is accepted, or has not passed for `WAIT_S`; it is noted.

    Raises: as `ask` does.
    """
    deadline = time.monotonic() + WAIT_S
    while True:
        found = ask()
        if at_work(request, found) or STEP in accepted or time.monotonic() >= deadline:
            break
        time.sleep(AGAIN_S)
    evidence = [e._asdict() for e in found.evidence]
    journal.note(STEP, **found._asdict() | {"evidence": evidence})
    return found


def noted_services(journal: RecoveryJournal) -> dict[str, Any] | None:
    """What was noted of them last; None: they were not asked."""
    done = journal.done.get(STEP)
    return done and {key: value for key, value in done.items() if key not in ("step", "at_ms")}
