"""How a signed manifest differs from what runs here, and what to do about it. Pure.

Asked by a backup of the one before it, and by a recovery of the one that it restores, before either
changes anything. A manifest that differs is not damaged (that would end with 13): something else
has to be there first, so what stops either of them ends it with 14.

| the manifest has | | because |
|---|---|---|
| another number of partitions | stops | keys, states and positions are by partition number |
| a newer fold version | stops | an older build would lose what it does not know |
| an older fold version | is noted | its states are read; the facts after them are folded by ours |
| an origin that is not here | stops | its facts would not be read, and nobody would miss them |
| not an origin that is here | is noted | it is new: its facts are read from their beginning |
| a topic with another id | is noted | it was made again: what it held at the cut may be gone |

Invariants: only what every manifest of the format has is compared, so those of older builds too;
origins are those of its positions, whatever its build wrote as its topology.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from everlode.backup.manifest import Manifest
from everlode.errors import Precondition
from everlode.state.dispatch import FOLD_VERSION
from everlode.telemetry.entries import Note
from everlode.telemetry.sink import Sink
from everlode.topics import Topology
from everlode.topics.names import split_fact_topic


class Difference(NamedTuple):
    """One of them. `stops`: neither a backup nor a recovery may go on."""

    code: str
    text: str
    hint: str
    stops: bool


def differences(
    manifest: Manifest,
    topology: Topology,
    fold_version: int = FOLD_VERSION,
    topic_ids: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Difference, ...]:
    """All of them, those that stop first. `topic_ids`: name → the cluster's id, as it is now."""
    found = [
        *_partitions(manifest, topology),
        *_folds(manifest, fold_version),
        *_origins(manifest, topology),
        *_topics(manifest, topic_ids),
    ]
    return tuple(sorted(found, key=lambda d: not d.stops))


def require_alike(
    manifest: Manifest,
    topology: Topology,
    report: Sink,
    topic_ids: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Go on, or say why not; what is only noted goes to `report`. Ids as in `differences`.

    Raises: Precondition: names the backup, what differs, and the way out.
    """
    name = f"backup {manifest.backup_id}"
    for found in differences(manifest, topology, topic_ids=topic_ids):
        if found.stops:
            raise Precondition(f"{name} {found.text}", code=found.code, hint=found.hint)
        report(Note("backup", f"{name} {found.text}: {found.hint}"))


def _partitions(manifest: Manifest, topology: Topology) -> list[Difference]:
    theirs, ours = manifest.partitions, topology.partitions
    if theirs == ours:
        return []
    text = f"has {theirs} partitions, the topology {ours}"
    hint = (
        f"a region keeps its number: set partitions to {theirs} in the topology of a new stack, or"
        " name the stack that the backup is of with --dir"
    )
    return [Difference("partitions_differ", text, hint, True)]


def _folds(manifest: Manifest, ours: int) -> list[Difference]:
    theirs = manifest.fold_version
    text = f"is of fold version {theirs}, this build has {ours}"
    if theirs > ours:
        hint = f"use the build that made it, {manifest.tool}, or a later one"
        return [Difference("fold_newer", text, hint, True)]
    if theirs < ours:
        hint = (
            f"what the folds of {manifest.tool} made stays as it is, and later facts are folded by"
            " this build"
        )
        return [Difference("fold_older", text, hint, False)]
    return []


def _origins(manifest: Manifest, topology: Topology) -> list[Difference]:
    theirs = {split_fact_topic(at.topic)[0] for at in manifest.positions}
    found = []
    if missing := sorted(theirs - set(topology.origins)):
        text = f"has facts of {', '.join(missing)}, which the topology does not name"
        hint = (
            "name all regions in the topology (EVERLODE_TOPOLOGY); one that has left for good:"
            " begin anew, with another bucket"
        )
        found.append(Difference("origins_differ", text, hint, True))
    if theirs and (new := sorted(set(topology.origins) - theirs)):
        text = f"has no facts of {', '.join(new)}"
        hint = "they are read from the beginning of their logs, as far as retention left them"
        found.append(Difference("origins_new", text, hint, False))
    return found


def _topics(manifest: Manifest, ids: Mapping[str, str]) -> list[Difference]:
    """An older build, or a topic that was not there, has no id: then nothing is compared."""
    again = sorted(
        t.name for t in manifest.topics if t.topic_id and ids.get(t.name, t.topic_id) != t.topic_id
    )
    if not again:
        return []
    text = f"is older than these topics, which were made again: {', '.join(again)}"
    hint = (
        "offsets in them begin anew, and records from before are gone: what counts is compared by"
        " seq and version"
    )
    return [Difference("topics_made_again", text, hint, False)]
