"""Backups as the control log knows them: which one runs in a region, and the newest that was made.

Each function gives what is known after a record, or why that has no effect. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from everlode.events import control as e

Leased = Mapping[str, e.BackupLeased]
"""Region → the backup that runs there."""
Newest = Mapping[str, e.BackupMade]
"""Region → its newest backup."""


def leased(running: Leased, data: e.BackupLeased) -> Leased | str:
    """The first to ask has it."""
    if data.region in running:
        return f"a backup of {data.region} runs"
    return MappingProxyType({**running, data.region: data})


def released(running: Leased, data: e.BackupReleased) -> Leased | str:
    """Whose it is gives it back."""
    held = running.get(data.region)
    if held is None or held.operation_id != data.operation_id:
        return f"another backup of {data.region} runs, or none"
    return MappingProxyType(
        {region: one for region, one in running.items() if region != data.region}
    )


def made(newest: Newest, data: e.BackupMade) -> Newest | str:
    """Never an older one."""
    known = newest.get(data.region)
    if known is not None and data.backup_id <= known.backup_id:
        return f"backup {known.backup_id} of {data.region} is as new"
    return MappingProxyType({**newest, data.region: data})
