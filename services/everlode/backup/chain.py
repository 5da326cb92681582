"""The chain of a region's backups, and what the control log notes of its newest one. Pure.

Each manifest names the one before it by id and hash. Each is signed, so a store can add nothing to
the chain; but it can drop backups, or be put back to an older state, and what is left is right in
itself. So the newest one is noted outside the store too:

    control log   BackupMade c ──────────────┐
    store         a ◄── b ◄── c ◄── d        └─ (2) the latest is this one, with this hash, or later
                  (1) each parent is there, signed by us, and the one that was named

(1) A chain may begin with any backup: older ones are removed from its beginning. A gap behind
which older ones stand is a break, and so is a parent of another hash, or one that others stand
between. Backups are whole by themselves: a break is named, and is no reason against recovering.
(2) What is older than the note needs the operator's word: the backup's id in place of `latest`.
What else is not signed by us is anybody's, and passed over; the noted one is an error by name.

Invariants: what is not signed by us is no parent, and decides no id; ids rise along the chain, past
what is noted and no longer there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from everlode.backup.manifest import LIST, Manifest, sha256_of
from everlode.errors import IntegrityError
from everlode.events.control import BackupMade


class Parent(NamedTuple):
    """What a backup is chained to."""

    backup_id: str = ""
    """Empty: it is the first."""
    sha256: str = ""
    created_at_ms: int = -1


def parent_of(newest: Manifest | None, noted: BackupMade | None) -> Parent:
    """What the next backup is chained to: the later of the store's newest, which is signed by us,
    and of the one that is noted, though the store may not have it any more."""
    if noted is not None and (newest is None or newest.backup_id < noted.backup_id):
        return Parent(noted.backup_id, noted.manifest_sha256, noted.created_at_ms)
    if newest is not None:
        return Parent(newest.backup_id, sha256_of(newest), newest.created_at_ms)
    return Parent()


def behind(
    latest: Manifest | None, noted: BackupMade | None, passed: Mapping[str, IntegrityError]
) -> str:
    """How the latest backup of the store falls short of what is noted; empty: it does not.

    `passed`: why others are not usable, by id. Nothing is noted of what only older builds have
    made: then nothing can be compared.
    """
    if noted is None:
        return ""
    if latest is None or latest.backup_id < noted.backup_id:
        there = f"the latest there is {latest.backup_id}" if latest else "no other is there"
        error = passed.get(noted.backup_id)
        how = f"is not usable: {error.message}" if error else "is not in the store"
        return f"backup {noted.backup_id}, the newest that was made, {how}: {there}"
    if latest.backup_id == noted.backup_id and sha256_of(latest) != noted.manifest_sha256:
        return f"backup {noted.backup_id} has another manifest than the control log notes"
    return ""


def require_newest(
    latest: Manifest | None, noted: BackupMade | None, passed: Mapping[str, IntegrityError]
) -> None:
    """Raises: IntegrityError: see `behind`; of one that is there and not usable, by its code."""
    if reason := behind(latest, noted, passed):
        error = passed.get(noted.backup_id) if noted else None
        raise IntegrityError(
            reason,
            code=error.code if error else "newest_missing",
            hint=f"{error.hint}, by its id instead of latest" if error else
            f"find out where it went; to use an older one, name its id instead of latest: {LIST}",
        )  # fmt: skip


def breaks(finished: Mapping[str, Manifest | None]) -> dict[str, str]:
    """Backup id → why its parent is not what it should be; those that are right are left out.

    `finished`: all backups with a manifest; None: it is not signed by us, or damaged.
    """
    signed = {name: m for name, m in sorted(finished.items()) if m is not None}
    found = {}
    for name, manifest in signed.items():
        older = [other for other in signed if other < name]
        if reason := _break(manifest, finished, older):
            found[name] = reason
    return found


def _break(manifest: Manifest, finished: Mapping[str, Manifest | None], older: list[str]) -> str:
    """`older`: the signed ones before it, in order."""
    name = manifest.parent_id
    if not older:
        return ""  # the chain begins here, or what was before has been removed
    if not name:
        return f"it names no parent, and {older[-1]} is older"
    if name not in finished:
        return f"its parent {name} is missing, and {older[-1]} is older"
    parent = finished[name]
    if parent is None:
        return f"its parent {name} is not usable"
    if sha256_of(parent) != manifest.parent_sha256:
        return f"its parent {name} has another manifest than it was made after"
    if name != older[-1]:
        return f"its parent is {name}, and {older[-1]} stands between them"
    return ""
