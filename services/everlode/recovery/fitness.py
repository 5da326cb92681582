"""Whether a region's services are well enough for its work to go on after a recovery. Pure."""

from __future__ import annotations

from collections.abc import Collection

from everlode.health.score import Health, passes
from everlode.recovery.planner import PPM
from everlode.recovery.request import RecoveryRequest


def at_work(request: RecoveryRequest, services: Health) -> bool:
    """Whether the services of the region may go on: they are above their gate, or nobody works.

    Where nobody works nothing is resumed by a switch; who starts later finds the new generation.
    """
    gate = request.services_gate_ppm
    return not gate or services.score is None or passes(services, gate / PPM)


def unfit(
    request: RecoveryRequest, services: Health | None, accepted: Collection[str] = ()
) -> tuple[str, ...]:
    """Why the recovery as a whole is held: services that are not well enough, not accepted."""
    if services is None or "services" in accepted or at_work(request, services):
        return ()
    return (f"services: their health is {services.score:.3f}, the gate is above"
            f" {request.services_gate_ppm / PPM:g}; {services.reason}",)  # fmt: skip
