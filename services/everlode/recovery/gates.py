"""Gates: what must be true of a restored component before the next one follows.

Compared are: rows with state records, key by key, by their hashes; what the generation knows with
what the backup has, by count; the ledger with zero; what waits, or refers to nothing, with what
did so at the cut. What does so since the cut, behind what is lost, or behind what cannot be
applied, is named: backup, loss and dead letter speak for it. What has no such reason is found.

Memory: a batch; what is compared is sorted by PostgreSQL. Shell: reads PostgreSQL and Kafka.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from functools import cached_property
from typing import Any, NamedTuple

from everlode.adapters.kafka import Reader
from everlode.adapters.postgres_gate import Comparison, Parked, Waiting, WaitingFact
from everlode.adapters.postgres_read import Generation
from everlode.avro.codec import Codec
from everlode.errors import ContractError
from everlode.recovery.planner import Finding, Waits
from everlode.topics.names import state_topic

NAMED = 1000
"""Keys and tasks that a report names, of a component; it counts all."""
READ_S = 120.0
FactThere = tuple[str, int, int, bytes]
"""Topic, partition, offset, fact."""


class Built(NamedTuple):
    """A generation of one region, as it was built."""

    conninfo: str
    bootstrap: str
    generation: int
    partitions: int
    cut_stamp: int = 0
    """Up to it every reference must hold."""


class AtTheCut(NamedTuple):
    """What the backup brings back of a component: it cannot speak against it."""

    known: int = 0
    """Aggregates, deleted ones too."""
    dangling: int = 0
    """References that held for nothing when it was restored."""
    waiting: Iterable[FactThere] = ()


class Gate(NamedTuple):
    """What was found against a component, and what of it waits."""

    findings: tuple[Finding, ...]
    waits: Waits = Waits()


_REACHED = (
    " and {alias}.stamp <= greatest(%s, (select coalesce(min(stamp), 0) from {{g}}.positions"
    " where seq > 0 and topic like %s))"
)
"""Only what is not newer than the facts that it refers to: the rest is still on its way."""
_REFERENCES = {
    "validations": (
        "validations whose task is unknown",
        "tasks",
        "select count(*) from {g}.validations v where v.task_id <> ''"
        " and not exists (select 1 from {g}.tasks t where t.key = v.task_id)"
        + _REACHED.format(alias="v"),
    ),
    "rewards": (
        "rewards whose validation is unknown",
        "validations",
        "select count(*) from {g}.rewards r where r.validation_id <> ''"
        " and not exists (select 1 from {g}.validations v where v.key = r.validation_id)"
        + _REACHED.format(alias="r"),
    ),
    "fraud": (
        "cases whose validation is unknown",
        "validations",
        "select count(*) from {g}.fraud f where f.validation_id is not null"
        " and not exists (select 1 from {g}.validations v where v.key = f.validation_id)"
        + _REACHED.format(alias="f"),
    ),
}


class Gates:
    """The gates of one generation, with connections that are kept; `close` it. Not thread-safe."""

    def __init__(self, built: Built) -> None:
        self._built = built
        self._opened = ExitStack()

    def close(self) -> None:
        """Leave."""
        self._opened.close()

    @cached_property
    def _db(self) -> Comparison:
        built = self._built
        return self._opened.enter_context(closing(Comparison(built.conninfo, built.generation)))

    @cached_property
    def _parked(self) -> Parked:
        built = self._built
        return self._opened.enter_context(closing(Parked(built.conninfo, built.generation)))

    @cached_property
    def _reader(self) -> Reader:
        reader = Reader(self._built.bootstrap, "gate", wait_ms=50)
        return self._opened.enter_context(closing(reader))

    def component(self, component: str, codec: Codec, cut: AtTheCut) -> Gate:
        """Check a component; `codec` may know newer schemas. Raises: Unavailable."""
        db = self._db
        found = [*self._rows(component), *_all_there(db, component, cut.known)]
        findings, named = _references(db, component, self._built.cut_stamp, cut.dangling)
        found += findings
        if component == "rewards":
            ((total,),) = db.query("select coalesce(sum(amount_micro), 0) from {g}.ledger")
            if total:
                found.append(Finding("ledger", f"the ledger sums to {total}, not to zero"))
        now = _keyed(codec, self._parked.facts(component))
        keys = db.waiting(component, now, _keyed(codec, cut.waiting), NAMED)
        if keys.unexplained:
            some = ", ".join(w.key for w in keys.some[:3])
            found.append(
                Finding(
                    "parked",
                    f"{keys.unexplained} keys wait that did not at the cut, for a version or an"
                    f" epoch, e.g. {some}",
                )
            )
        return Gate(tuple(found), Waits(keys.total, (*named, *map(_named, keys.some))))

    def _rows(self, component: str) -> Iterator[Finding]:
        """Rows and state topic, of all partition numbers at once."""
        count, some = self._db.states(component, self._records(component))
        if count:
            text = f"{count} keys differ between rows and state topic, e.g. {list(some)}"
            yield Finding("rows", text)

    def _records(self, component: str) -> Iterator[tuple[int, str, int, bytes | None]]:
        """(partition number, key, offset, state) of all records of a state topic."""
        topic = state_topic(self._built.generation, component)
        starts = {(topic, partition): 0 for partition in range(self._built.partitions)}
        for batch in self._reader.to_ends(starts, READ_S, 10_000):
            for raw in batch:
                key = (raw.key or b"").decode(errors="replace")
                yield raw.partition, key, raw.offset, raw.value


def gate_component(built: Built, component: str, codec: Codec, cut: AtTheCut) -> Gate:
    """See `Gates.component`; of one alone."""
    with closing(Gates(built)) as gates:
        return gates.component(component, codec, cut)


def _references(
    db: Comparison, component: str, cut_stamp: int, at_the_cut: int
) -> tuple[list[Finding], list[str]]:
    """What holds for nothing: found against the component, or to be named only."""
    count = dangling(db, component, cut_stamp)
    if not count:
        return [], []
    what, other, _ = _REFERENCES[component]
    holes = "select count(*) from {g}.problems where kind = 'seq_gap' and topic like %s"
    ((lost,),) = db.query(holes, (f"%.{other}",))
    text = f"{count} {what}, {at_the_cut} of them at the cut"
    if count > at_the_cut and not lost:
        return [Finding("references", text)], []
    return [], [f"{text}{', others behind what is lost' if lost else ''}"]


def _all_there(db: Comparison, component: str, expected: int) -> Iterator[Finding]:
    there = db.known(component)
    if there < expected:
        yield Finding("incomplete", f"{there} aggregates are known, the backup has {expected}")


def dangling(db: Generation, component: str, cut_stamp: int) -> int:
    """How many references of a component hold for nothing. Raises: Unavailable."""
    if component not in _REFERENCES:
        return 0
    _, other, text = _REFERENCES[component]
    ((count,),) = db.query(text, (cut_stamp, f"%.{other}"))
    return int(count)


def _keyed(codec: Codec, facts: Iterable[FactThere]) -> Iterator[WaitingFact]:
    """Facts with their aggregates; one that is not known is a key of its own."""
    for topic, partition, offset, value in facts:
        try:
            key = codec.decode_fact(value).envelope.aggregate_id
        except ContractError:
            key = f"{topic}/{partition}@{offset}"
        yield WaitingFact(topic, partition, offset, key)


def _named(waiting: Waiting) -> str:
    why = (
        "cannot be applied" if waiting.unapplied
        else "since the cut" if waiting.since_the_cut
        else "behind what is lost" if waiting.behind_loss
        else "for a version or an epoch"
    )  # fmt: skip
    return f"{waiting.key}: {waiting.facts} facts, {why}"


_ACTIVE = (
    "select t.key, t.status <> 'submitted' and m.key is null as no_miner,"
    " t.status = 'validated' and not exists"
    "  (select 1 from {g}.validations v where v.task_id = t.key) as no_validation"
    " from {g}.tasks t left join {g}.miners m on m.key = t.miner_id"
    " where t.status in ('submitted', 'assigned', 'solved', 'validated')"
)


def active_tasks(db: Generation) -> dict[str, Any]:
    """How many active tasks are fully recovered, how many partly, and what the first lack."""
    counted = "select count(*), count(*) filter (where no_miner or no_validation)"
    some = f"where no_miner or no_validation order by key limit {NAMED}"
    ((total, partly),), rows = db.queries(
        (f"{counted} from ({_ACTIVE}) a", ()), (f"select * from ({_ACTIVE}) a {some}", ())
    )
    details = [
        {
            "task_id": key,
            "missing_components": ["miner"] * no_miner + ["validation"] * no_validation,
        }
        for key, no_miner, no_validation in rows
    ]
    return {
        "total_tasks": total,
        "fully_recovered": total - partly,
        "partially_recovered": partly,
        "partial_recovery_details": details,
    }
