"""Routes of the pages of what is kept: backups and whether they hold, dead letters, stopped keys.

    GET /pages/backups?region=eu ─► as `everlode backup list`, with what was verified
    GET /pages/letters?region=eu ─► as `everlode dlt list`, and the keys that have stopped

They need no script, and change nothing. Shell, but for what says that it is pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from fastapi import APIRouter, Request
from starlette.responses import Response

from everlode.api.asking import Net
from everlode.api.guard import PAGES
from everlode.api.letters import FRESH_S, LISTED, letters_of, stopped_of
from everlode.api.looking import OPERATIONS, Values, shown
from everlode.api.network import Network
from everlode.api.queries import BACKUPS_S, backups_of
from everlode.events.stamp import millis_of
from everlode.log.fates import OPEN, Filter, listed
from everlode.views.backups import Finished, Listed, Unusable
from everlode.views.operations import MOST, Operation

router = APIRouter(include_in_schema=False, prefix=PAGES.rstrip("/"))
KINDS = frozenset({"backup", "drill", "recovery"})
ENDED = "BackupEnded"


def _of_region(request: Request, network: Network) -> tuple[str, Values]:
    """The region that is asked about, and the links to the others."""
    asked = request.query_params.get("region") or network.region
    others = [name for name in network.endpoints.regions if name != asked]
    return asked, {"region": asked, "others": others}


def time_of(ms: int | None) -> str:
    """A moment in words; whoever writes a record may give it any time. Pure."""
    try:
        at = datetime.fromtimestamp((ms or 0) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return f"no moment: {ms}"
    return "not known" if ms is None else at.strftime("%Y-%m-%d %H:%M:%S UTC")


def compared_of(operations: Iterable[Operation]) -> dict[str, bool]:
    """Backup → whether it was read back and compared when it was made. Pure."""
    return {
        part["backup_id"]: part["verified"]
        for operation in operations for part in operation.parts if part["type"] == ENDED
    }  # fmt: skip


def row_of(row: Listed, compared: Mapping[str, bool]) -> Values | None:
    """A backup as its page shows it; None: it is none. Pure."""
    was = {True: "read back and compared", False: "not read back", None: "not known any more"}
    match row:
        case Finished():
            state = row.chain or "its signature is right, and its chain whole"
            return {
                "backup_id": row.backup_id, "good": not row.chain, "state": state,
                "compared": was[compared.get(row.backup_id)], "made": time_of(row.created_at_ms),
                "cut": time_of(millis_of(row.cut_stamp)), "records": row.records,
                "bytes": row.bytes,
            }  # fmt: skip
        case Unusable():
            return dict.fromkeys(("compared", "made", "cut", "records", "bytes"), "") | {
                "backup_id": row.backup_id, "good": False, "state": f"not usable: {row.error}",
            }  # fmt: skip
        case _:
            return None


@router.get("/backups")
async def backups(request: Request, network: Net) -> Response:
    """The backups of `?region=`, this server's without it."""
    region, values = _of_region(request, network)
    known = network.operations.newest(MOST)
    compared = compared_of(known)
    ran = [each.shown() for each in known if each.kind in KINDS and each.region == region]
    values |= {"backups": None, "behind": "", "operations": ran[:OPERATIONS]}
    values["fresh_s"] = f"{BACKUPS_S:.0f}"

    def by_store(values: Values) -> None:
        found = backups_of(network, network.require_region(region))
        rows = [row_of(row, compared) for row in reversed(found.rows)]
        values["backups"], values["behind"] = [row for row in rows if row], found.behind

    return await shown(request, "backups.html.j2", values, by_store)


@router.get("/letters")
async def letters(request: Request, network: Net) -> Response:
    """The dead letters of `?region=`, this server's without it, and its keys that have stopped."""
    region, values = _of_region(request, network)
    values |= {"letters": None, "stopped": None, "fresh_s": f"{FRESH_S:.0f}"}

    def by_log(values: Values) -> None:
        found = letters_of(network, network.require_region(region))
        open_ones = [letter for letter in found if Filter(OPEN).has(letter)]
        newest = listed(open_ones, LISTED)["letters"]
        shown_ones = [one | {"kept": time_of(one["kept_at_ms"])} for one in reversed(newest)]
        values["letters"] = listed(found, 1) | {"open": shown_ones}

    def by_projection(values: Values) -> None:
        values["stopped"] = stopped_of(network, network.require_region(region))

    return await shown(request, "letters.html.j2", values, by_log, by_projection, each_alone=True)
