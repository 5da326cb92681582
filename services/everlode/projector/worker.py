"""Applies batches of one partition number: fold, PostgreSQL, state topics, in that order.

The numbered protocol of a batch, for one partition number:
  1. read back what `seq` shows to be missing before the batch;
  2. load the states that it needs and that are not cached;
  3. fold, and tell gaps (must, before 4: a gap is met once; its event's id makes it one event);
  4. PostgreSQL: rows and positions in one transaction, if we still own the partition (must);
  5. state records in one transaction of the partition's own transactional id (must, before ack);
  6. the next batch notes in PostgreSQL that they are published (should: else they are sent again).
A projector that is killed between 4 and 5 leaves rows that are not published; whoever takes the
partition over publishes them first. One that is stopped and woken is fenced at 4 by the owner and
at 5 by the transactional id, so a state topic never goes back. Shell; one thread a partition.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from everlode.adapters.dead_letters import DeadLetters
from everlode.adapters.kafka import Raw, Reader, Record
from everlode.adapters.kafka_sender import Sender
from everlode.adapters.kafka_writer import Writer
from everlode.adapters.postgres import Projection
from everlode.avro.codec import Codec, UnknownSchema
from everlode.errors import ContractError, Unavailable
from everlode.events.base import Fact
from everlode.log.learn import Learn, never
from everlode.projection.fold import Incoming, Key, Known, Outcome, PartitionFold, Prefix
from everlode.projection.tables import NOWHERE, Gone, column_names, row
from everlode.projector.epochs import Decided, unasked
from everlode.projector.findings import Found, untold
from everlode.state.dispatch import state_component
from everlode.topics.names import state_topic
from everlode.topics.place import check_place

TOPIC_COLUMN, SEQ_COLUMN = (column_names("tasks").index(name) for name in ("topic", "seq"))
"""In the head of a row, which is the same of every component."""
CHUNK = 16
"""Records that are decoded and folded together: so few that they stay in the processor's cache."""
DEAD_LETTER_S = 15.0
CACHED = 60_000
"""States kept in memory, a partition number."""


class Home(NamedTuple):
    """Where a projector works."""

    region: str
    bootstrap: str
    conninfo: str
    generation: int
    node_id: str


class Outside(NamedTuple):
    """What a worker asks of others, and tells them."""

    learn: Learn = never
    """Waits for an unknown schema."""
    epochs: Decided = unasked
    """Waits for epochs to be decided."""
    found: Found = untold
    """Is told of problems; the same ones again after a crash."""


ALONE = Outside()
"""Nobody is asked, nobody is told."""


class _States(dict[Key, Known]):
    """What is known of aggregates; what is missing is loaded, but better in one go before."""

    def __init__(self, load: Callable[[set[Key]], dict[Key, Known]], keys: set[Key]) -> None:
        self._load = load
        self.before = load(keys)
        """As loaded."""
        super().__init__(self.before)

    def __missing__(self, key: Key) -> Known:
        """See dict."""
        found = self[key] = self.before[key] = self._load({key})[key]
        return found


class PartitionWorker:
    """Owns one partition number of all fact topics."""

    def __init__(
        self,
        home: Home,
        partition: int,
        topics: Sequence[str],
        outside: Outside = ALONE,
        writer: Writer | None = None,
    ) -> None:
        """Take the partition over and publish what was left unpublished.

        `writer`: this partition's, when the caller has opened it already, and throws it away
        itself. Raises: Unavailable.
        """
        self.partition = partition
        self.codec = Codec()
        self._home = home
        self._outside = outside
        owner = f"{home.node_id}/{partition}/{uuid.uuid4().hex[:8]}"  # of this takeover alone
        self._db = Projection(home.conninfo, home.generation, owner)
        name = f"projector.{home.region}.g{home.generation}.{partition}"
        self._writer = writer or Writer(home.bootstrap, name)
        self._lent = writer is not None
        taken = self._db.take(partition, topics, self._decode_parked)
        if not self._lent:
            self._writer.open()
        self._fold = PartitionFold(partition, taken.positions, taken.opened, taken.parked)
        self._published: dict[str, int] = {}
        self._cache: OrderedDict[Key, Known] = OrderedDict()
        self._dead = DeadLetters(Sender(home.bootstrap), "projector")
        self.quarantined = 0
        self._quarantined: dict[str, int] = {}
        """Topic → offset after the last one of this batch."""
        left = [
            self._state_record(component, key, doc)
            for component, key, _, doc in self._db.unpublished(partition)
        ]
        for start in range(0, len(left), 2000):
            self._writer.write(left[start : start + 2000])
        self._note_published()

    def positions(self) -> dict[str, Prefix]:
        """Where the partition number stands, a topic each."""
        return self._fold.positions

    def owns(self) -> bool:
        """True while nobody has taken the partition over. Raises: Unavailable."""
        return self._db.owns(self.partition)

    def apply(self, raws: Sequence[Raw], counter: str) -> Outcome:
        """Apply records of this partition number, in order; returns once they are published.

        `counter` names how they came (live or bulk). Records before the position have been
        applied or quarantined, and are passed over. Raises: FencedOut: another took the
        partition. Unavailable: nothing, or everything up to step 4, has happened.
        """
        at = self._fold.positions
        raws = [r for r in raws if r.topic not in at or r.offset >= at[r.topic].next_offset]
        before = {t: Prefix(p.seq, p.stamp, p.next_offset) for t, p in at.items()}
        waiting = self._fold.releasable(self._outside.epochs(()))
        known = _States(self._known, self._keys(raws) | waiting)
        outcome = Outcome()
        for start in range(0, max(1, len(raws)), CHUNK):  # once without any: what waits goes on
            chunk = self._decoded(raws[start : start + CHUNK])
            missing = _before(self._fold.missing_before(chunk), raws)
            if missing:
                chunk = self._decoded(self._read_back(missing)) + chunk
            self._fold.fold(chunk, known, self._outside.epochs(chunk), outcome)
        self._pass_over()
        if outcome.problems:
            self._outside.found(self.partition, outcome.problems)
        waited = {item.fact.envelope.aggregate_id for item in outcome.released}
        rows: dict[str, list[tuple[Any, ...]]] = {}
        published = dict(self._published)
        for (component, key), value in outcome.changed.items():
            made = row(component, key, value, self._gone(outcome, (component, key), known))
            if key in waited:
                made = self._changed_now(made, published)
            rows.setdefault(component, []).append(made)
        self._db.apply(self._fold, before, outcome, rows, published, counter)
        records = [
            self._state_record(component, values[0], values[10])
            for component, found in rows.items()
            for values in found
        ]
        if records:
            self._writer.write(records)
        self._note_published()
        self._remember(known)
        return outcome

    def _gone(self, outcome: Outcome, key: Key, known: _States) -> Gone:
        item = outcome.deleted.get(key)
        if item is None:
            return NOWHERE
        state = known.before[key].state
        home = state.home if state is not None else ""
        return Gone(item.topic, self.partition, item.fact.envelope.seq, home)

    def _changed_now(self, made: tuple[Any, ...], published: dict[str, int]) -> tuple[Any, ...]:
        """The row of a fact that waited, with the `seq` at which it changed, not the fact's own.

        Else whoever takes over would hold its state for published long ago; so it would, too, had
        its topic not moved since all of it was `published`, which is lowered then.
        """
        topic = made[TOPIC_COLUMN]
        position = self._fold.positions.get(topic)
        if position is None:
            return made
        published[topic] = min(published.get(topic, 0), position.seq - 1)
        return (*made[:SEQ_COLUMN], position.seq, *made[SEQ_COLUMN + 1 :])

    def _pass_over(self) -> None:
        """Positions pass what was quarantined, once it is kept.

        Raises: Unavailable: it is not.
        """
        self._dead.deliver(DEAD_LETTER_S)
        for topic, offset in self._quarantined.items():
            position = self._fold.positions[topic]
            position.next_offset = max(position.next_offset, offset)
        self._quarantined.clear()

    def _note_published(self) -> None:
        self._published = {t: p.seq for t, p in self._fold.positions.items()}

    def _state_record(self, component: str, key: str, doc: bytes | None) -> Record:
        topic = state_topic(self._home.generation, component)
        return Record(topic, self.partition, key, doc, [])

    # -- states ------------------------------------------------------------------------------

    def _known(self, keys: set[Key]) -> dict[Key, Known]:
        found = {key: self._cache[key] for key in keys if key in self._cache}
        missing = keys - found.keys()
        if missing:
            found.update(self._db.known(missing))
        return found

    def _remember(self, known: dict[Key, Known]) -> None:
        for key, value in known.items():
            self._cache[key] = value
            self._cache.move_to_end(key)
        while len(self._cache) > CACHED:
            self._cache.popitem(last=False)

    # -- records -----------------------------------------------------------------------------

    def _keys(self, raws: Sequence[Raw]) -> set[Key]:
        """Aggregates that the records say they are of, so that their states come in one go."""
        found = set()
        for raw in raws:
            component = state_component(self.codec.type_name(raw.value))
            if component is not None and raw.key is not None:
                found.add((component, raw.key.decode(errors="replace")))
        return found

    def _decoded(self, raws: Sequence[Raw]) -> list[Incoming]:
        found = []
        for raw in raws:
            topic, _, offset, key, value, _ = raw
            try:
                fact = self._decode_value(value)
                check_place(topic, key, fact)
            except ContractError as error:
                self._quarantine(raw, error)
            else:
                found.append(Incoming(topic, offset, fact, value or b""))
        return found

    def _decode_value(self, value: bytes | None) -> Fact:
        try:
            return self.codec.decode_fact(value)
        except UnknownSchema as error:
            if not self._outside.learn(self.codec, error.fingerprint):
                raise
            return self.codec.decode_fact(value)

    def _decode_parked(self, value: bytes) -> Fact:
        """Decode what an owner before us could: its schema must come again."""
        try:
            return self._decode_value(value)
        except UnknownSchema as error:
            raise Unavailable(f"a record that waits: {error.message}", hint=error.hint) from None

    def _quarantine(self, raw: Raw, error: ContractError) -> None:
        """Keep it on the dead-letter topic, and go on."""
        self._dead.add(raw, error)
        self.quarantined += 1
        passed = self._quarantined.get(raw.topic, 0)
        self._quarantined[raw.topic] = max(passed, raw.offset + 1)

    def _read_back(self, missing: dict[str, tuple[int, int]]) -> list[Raw]:
        """Records between what was applied and the batch, which Faust did not hand out."""
        reader = Reader(self._home.bootstrap, f"read-back-{self._home.node_id}", wait_ms=50)
        start = {(t, self.partition): a for t, (a, _) in missing.items()}
        reader.assign(start)
        found: list[Raw] = []
        for batch in reader.until({(t, self.partition): e for t, (_, e) in missing.items()}, 30):
            found.extend(r for r in batch if r.offset < missing[r.topic][1])
        reader.close()
        return found

    def close(self) -> None:
        """Leave."""
        if not self._lent:
            self._writer.abandon()
        self._db.close()


def _before(missing: dict[str, tuple[int, int]], raws: Sequence[Raw]) -> dict[str, tuple[int, int]]:
    """What is missing before the records at hand, so that no dead letter is written twice."""
    found = {}
    for topic, (start, end) in missing.items():
        first = min((r.offset for r in raws if r.topic == topic), default=end)
        if start < min(first, end):
            found[topic] = (start, min(first, end))
    return found
