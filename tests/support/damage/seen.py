"""Damages a thing, and asks the verbs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.support.damage import stored, tables, topics, verdicts, working
from tests.support.damage.cells import LOGS, NOTED, STORED, WORKING, Answers
from tests.support.damage.world import World

HARMS: Mapping[str, Mapping[str, Callable[[World], None]]] = {
    "fact log": topics.FACTS,
    "state topic": topics.STATES,
    "rows": tables.ROWS,
    "positions": tables.POSITIONS,
    "fences": tables.FENCES,
    "generation pointer": tables.POINTER,
    "manifest": stored.MANIFEST,
    "object": stored.OBJECT,
    "chain": stored.CHAIN,
    "key": stored.KEY,
    "journal": working.JOURNAL,
    "staging": working.STAGING,
}


def answers(world: World, thing: str, damage: str) -> Answers:
    """What the verbs answer once a thing of the whole region has been damaged.

    Of what is stored, the latest backup is recovered from before a new one is made; of what a
    backup is made from, a new one is made before a recovery makes that anew.
    """
    world.restore()
    world.logs_differ = thing in LOGS
    harm = HARMS[thing][damage]
    if thing in WORKING:
        working.interrupt(world)
        harm(world)
        return Answers(recover=verdicts.recover(world))
    harm(world)
    if thing in STORED:
        doctor = verdicts.doctor(world) if thing in NOTED else ""
        verify, recover = verdicts.verify(world), verdicts.recover(world)
        return Answers(verdicts.backup(world), verify, recover, doctor)
    doctor, verify = verdicts.doctor(world), verdicts.verify(world)
    before = world.latest.backup_id
    backup = verdicts.backup(world)
    return Answers(backup, verify, verdicts.recover(world, before), doctor)
