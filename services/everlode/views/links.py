"""Which regions do not hear which: from their verdicts, and from the control log. Pure.

A link that carries nothing is said by its reader (`LinkStale` on `<origin>.health`); that a region
is suspected, or lost, is what the folded control log says.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from everlode.control.fold import ControlState
from everlode.control.sites import losses, suspicions
from everlode.events.base import Fact
from everlode.events.health import LinkStale


class StaleLink(NamedTuple):
    """A link over which nothing came when its reader last said something of it."""

    source: str
    reader: str
    since: str
    """When that was said; ISO time."""
    silent_s: float
    """Of the silence then."""
    blind: bool
    """The reader hears no majority of the sites: it may be the one that is cut off."""


def stale_links(reader: str, verdicts: Iterable[Fact]) -> list[StaleLink]:
    """Of a region's verdicts, in order: the links to it that are stale by the last of them."""
    last: dict[str, StaleLink] = {}
    for envelope, data in verdicts:
        if not isinstance(data, LinkStale):
            continue
        last.pop(envelope.aggregate_id, None)
        if not data.over:
            last[envelope.aggregate_id] = StaleLink(
                envelope.aggregate_id, reader, envelope.occurred_at.isoformat(timespec="seconds"),
                data.silence_ms / 1000, 2 * data.heard <= data.sites,
            )  # fmt: skip
    return [last[source] for source in sorted(last)]


def standing(control: ControlState, region: str) -> str | None:
    """Whether a region is fenced, lost or suspected, and by whom; None: by nobody."""
    fence = control.fences.get(region)
    if fence is not None and fence.out:
        owners = {
            control.scopes[s].region for s in fence.epochs if not s.startswith("coordinator/")
        }
        lacks, taken = ", ".join(fence.lacks()), ", ".join(sorted(owners - {region}))
        waits = f"what counts of it waits for {lacks}" if lacks else "its scopes wait for a primary"
        return f"fenced: {f'its scopes are served by {taken}' if taken else waits}"
    by = ", ".join(sorted(s.observer for s in suspicions(control, region)))
    if not by:
        return None
    return f"{'lost' if region in losses(control) else 'suspected'}: not heard by {by}"
