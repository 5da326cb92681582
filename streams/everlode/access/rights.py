"""Who may do what in Kafka: one table of principals, and what each has to do there.

A principal is what a process proves to be by its login (`everlode.access.login`); several processes
may be one. What is not in the table is refused. Names of groups and of transactional ids are
beginnings: the rest is drawn, or is a region's. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from everlode.events.catalogue import FACT_COMPONENTS, SIGNALS
from everlode.events.services import SERVICES, Service
from everlode.topics.catalogue import DEAD_LETTER_CONSUMERS

FACTS = tuple(f"facts.{c}" for c in FACT_COMPONENTS)
COMMANDS = tuple(f"commands.{c}" for c in FACT_COMPONENTS)
SNAPSHOTS = tuple(f"snapshots.{c}" for c in FACT_COMPONENTS)
LETTERS = tuple(f"letters.{c}" for c in DEAD_LETTER_CONSUMERS)
KINDS = (
    *COMMANDS, *FACTS, *SIGNALS, "copies", "replies", "work", "states", *SNAPSHOTS, *LETTERS,
    "control",
)  # fmt: skip
"""Kinds of topics, as a region sees them: facts and signals are its own, copies are others'; the
control log is the network's."""
LOOK = ("control-follower-", "schemas", "snapshot-", "marks-", "ends")
"""Groups that nearly everybody uses; nothing is ever committed in them."""


REGION = "REGION"
"""Stands for each region's name, in beginnings of names."""


_OF_THE_SDK = ("replay-", "consumer-")
"""Of a service that somebody else writes: `EventProducer`, `EventConsumer`."""


class Rights(NamedTuple):
    """Of one principal."""

    principal: str
    who: str
    """Which processes are it."""
    reads: tuple[str, ...]
    """Kinds of topics."""
    writes: tuple[str, ...]
    groups: tuple[str, ...]
    """How the names of its consumer groups begin."""
    transactions: tuple[str, ...] = ()
    """How its transactional ids begin."""
    makes: tuple[str, ...] = ()
    """Kinds of topics that it makes, alters and deletes."""


def _service(service: Service) -> Rights:
    """Of all nodes of a service: its primary is one of them, and any may become it."""
    own = service.facts
    votes = service.node == "validator"  # each of its nodes judges, as a client of the primary
    work = ("work",) if own == "tasks" else ()
    return Rights(
        service.node,
        f"`everlode node run {service.node}`",
        (
            f"commands.{own}", *(("replies",) if votes else ()), *FACTS, "copies", "schemas",
            *SNAPSHOTS, *work, "control",
        ),
        (
            *((f"commands.{own}",) if votes else ()), f"facts.{own}", "replies",
            f"snapshots.{own}", *work, "letters.primary", "heartbeats", "health", "schemas",
            "control",
        ),
        (
            *(("client-",) if votes else ()),
            f"primary.{own}.", f"writer-{own}-", f"memory-{own}-", f"seen-{own}-",
            f"adopted-{own}-", f"archive-{own}-", *(("index-",) if work else ()), *_OF_THE_SDK,
            *LOOK,
        ),
        (f"{own}.",),
    )  # fmt: skip


RIGHTS = (
    Rights(
        "client", "who submits tasks: `MiningClient`, `TaskWatch`",
        ("replies", "facts.tasks", "schemas", "control"), ("commands.tasks",),
        ("client-", "watch-", "consumer-", *LOOK),
    ),
    Rights(
        "miner", "a mining program: `Work`, `MinerBeacon`, `MiningClient`",
        ("replies", "work", "schemas", "control"),
        ("commands.tasks", "commands.miners", "heartbeats"), ("client-", "work.", *LOOK),
    ),
    Rights(
        "expert", "who votes on solutions: `MiningClient`",
        ("replies", "facts.tasks", "facts.validations", "schemas", "control"),
        ("commands.validations",), ("client-", "consumer-", *LOOK),
    ),
    *(_service(service) for service in SERVICES),
    Rights(
        "projector", "`everlode projector run`",
        (*FACTS, "copies", "heartbeats", "schemas", "states", "control"),
        ("states", "letters.projector", "heartbeats", "health", "recovery", "control"),
        ("projector", "read-back-", *LOOK), ("projector.",),
    ),
    Rights(
        "detector", "`everlode detector run`", ("heartbeats", "schemas", "control"),
        ("heartbeats", "health", "letters.detector", "control"), ("detector", *LOOK),
    ),
    Rights(
        "coordinator", "`everlode coordinator run`",
        (*FACTS, *SIGNALS, "replies", "copies", *SNAPSHOTS, "control"),
        (
            "commands.tasks", "copies", "heartbeats", "health", "recovery", "letters.coordinator",
            "control",
        ),
        ("coordinator-", "regions-", "level", "client-", *LOOK), ("level.",),
    ),
    Rights(
        "mirror", "MirrorMaker 2: it reads a region's own, and writes them as copies elsewhere",
        (*FACTS, *SIGNALS, "copies", "mirrors"), ("copies", "mirrors"), (f"{REGION}-mm2",),
        (f"connect-cluster-{REGION}-mm2", f"{REGION}-mm2-"), ("mirrors",),
    ),
    Rights(
        "backup", "`everlode backup create`",
        (*FACTS, "copies", "schemas", "states", *SNAPSHOTS, "control"), ("control",),
        ("backup", *LOOK),
    ),
    Rights(
        "recovery", "`everlode recover run`: it fills the next generation of states",
        (*FACTS, *SIGNALS, "copies", "replies", "states", *SNAPSHOTS, "control"),
        ("states", "letters.projector", "control"), ("recovery-", "gate", *LOOK), ("projector.",),
        ("states",),
    ),
    Rights(
        "operator", "verbs that look and ask: `status`, `scope`, `miner`, `dlt`, `events`",
        KINDS, (*COMMANDS, "control", "recovery", *LETTERS),
        (
            "client-", "fenced", "operators-", "scope-explain", "explain", "dlt", "dead-letters-",
            "look-", "skews-", "unreached", "doctor", "health", "retention", "replay-",
            "topology-apply", "tail-", *LOOK,
        ), ("dead-letters-",),
    ),
    Rights(
        "serve", "`everlode serve`", KINDS, (*COMMANDS, "control"),
        ("serve", "feed-", "client-", "operators-", "look-", "skews-", *LOOK),
    ),
)  # fmt: skip
BY_PRINCIPAL = {rights.principal: rights for rights in RIGHTS}
"""The stack's own super user is not in it: it makes topics, users and these rights."""
