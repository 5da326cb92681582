"""Applies batches of one partition number: facts in, rows and state records out, in step.

Theory of operation. A partition number, the same of every fact topic, has one owner at a time.
What its facts come to stands in two stores that share no transaction: PostgreSQL, where rows and
positions move together, and the compacted state topics. PostgreSQL comes first and says how far
the topics surely are: `published_seq`. What lies between is sent again, which changes nothing.

    facts              PostgreSQL, one transaction            state topics, one transaction
    seq 8 9            seq 9, rows to 9, published_seq 7      to 9
    + batch 10 11 12   seq 12, rows to 12, published_seq 9    to 9      <- killed here
    a new owner        the same, another owner                to 12     rows with seq > 9 sent
    + batch 13         seq 13, rows to 13, published_seq 12   to 13

A batch:
  1. load the states of the aggregates that its records name and that are not in memory;
  2. read back what `seq` shows to be missing before it;
  3. fold; keep dead letters; report problems (must, before 4: a gap is met once);
  4. PostgreSQL: rows and positions in one transaction, if we are still the owner (must);
  5. state records in one transaction of the partition's own transactional id (must, before ack);
  6. note in memory that they are published; 4 of the next batch writes it (should).
Steps 2 and 3 take turns, a chunk of records at a time.

Taking over:
  a. owner in PostgreSQL, with positions, opened epochs and what waits read in one transaction;
  b. `init_transactions` under the partition's transactional id;
  c. the states of rows that are not known to be published are sent.

Killed before 4, it has changed nothing: its dead letters and reports come again, as the same ones.
Killed between 4 and 5, its rows are not published: the next owner does it at c. Killed after 5, it
has done all: at worst c sends states again that are there. A projector that was stopped and wakes
is fenced, at 4 by the owner and at 5 by the transactional id, so a state topic never goes back.

Shell; one thread a partition.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

from everlode.adapters.kafka import Raw, Record
from everlode.adapters.kafka_writer import Writer
from everlode.adapters.postgres import Projection
from everlode.log.learn import Learn, no_learning
from everlode.projection.fold import Key, Outcome, PartitionFold, Prefix
from everlode.projection.tables import DOC, NOWHERE, Gone, row, topic_of
from everlode.projector.epochs import Decided, no_waiting
from everlode.projector.findings import ReportProblems, no_report
from everlode.projector.intake import Intake
from everlode.projector.states import Loaded, States
from everlode.topics.names import state_topic

CHUNK = 16
"""Records that are decoded and folded together: so few that they stay in the processor's cache."""
SENT_AGAIN = 2000
"""State records of a transaction, when a partition is taken over."""


class Home(NamedTuple):
    """Where a projector works."""

    region: str
    bootstrap: str
    conninfo: str
    generation: int
    node_id: str


class Outside(NamedTuple):
    """What a worker asks of others, and reports to them."""

    learn: Learn = no_learning
    """Waits for an unknown schema."""
    epochs: Decided = no_waiting
    """Waits for epochs to be decided."""
    problems: ReportProblems = no_report
    """Gets problems; the same ones again after a crash."""


NOTHING_OUTSIDE = Outside()


class _Change(NamedTuple):
    """What a batch writes."""

    rows: dict[str, list[tuple[Any, ...]]]
    """Component → rows, each key once."""
    records: list[Record]
    """The same states, for the state topics."""
    published: dict[str, int]
    """Topic → `seq` up to which the state topics surely hold what PostgreSQL does."""


class PartitionWorker:
    """Owns one partition number of all fact topics."""

    def __init__(
        self,
        home: Home,
        partition: int,
        topics: Sequence[str],
        outside: Outside = NOTHING_OUTSIDE,
        writer: Writer | None = None,
    ) -> None:
        """Take the partition over and publish what was left unpublished.

        `writer`: this partition's, when the caller has opened it already, and throws it away
        itself. Raises: Unavailable.
        """
        self.partition = partition
        self._home = home
        self._outside = outside
        owner = f"{home.node_id}/{partition}/{uuid.uuid4().hex[:8]}"  # of this takeover alone
        self._db = Projection(home.conninfo, home.generation, owner)
        name = f"projector.{home.region}.g{home.generation}.{partition}"
        self._writer = writer or Writer(home.bootstrap, name)
        self._lent = writer is not None
        self._intake = Intake(home.bootstrap, partition, home.node_id, outside.learn)
        self._states = States(self._db.known)
        taken = self._db.take(partition, topics, self._intake.waiting)  # a. owner
        if not self._lent:
            self._writer.open()  # b. transactional id
        self._fold = PartitionFold(partition, taken.positions, taken.opened, taken.parked)
        self._publish_rest()  # c. what was left unpublished
        self._published = self._seqs()

    def positions(self) -> dict[str, Prefix]:
        """Where the partition number stands, a topic each."""
        return self._fold.positions

    def owns(self) -> bool:
        """True while no other has taken the partition over. Raises: Unavailable."""
        return self._db.owns(self.partition)

    def apply(self, raws: Sequence[Raw], counter: str) -> Outcome:
        """Apply records of this partition number, in order; returns once they are published.

        `counter` names how they came (live or bulk). Records before the position have been
        applied or quarantined, and are passed over. Raises: FencedOut: another took the
        partition. Unavailable: nothing, or everything up to step 4, has happened.
        """
        at = self._fold.positions
        before = {t: Prefix(p.seq, p.stamp, p.next_offset) for t, p in at.items()}
        raws = [r for r in raws if r.topic not in at or r.offset >= at[r.topic].next_offset]
        known = self._load(raws)  # 1. load
        outcome = self._read_back_and_fold(raws, known)  # 2. read back, 3. fold
        self._keep_and_report(outcome)
        change = self._change(outcome, known)
        self._db.apply(  # 4. PostgreSQL
            self._fold, before, outcome, change.rows, change.published, counter
        )
        if change.records:
            self._writer.write(change.records)  # 5. state topics
        self._published = self._seqs()  # 6. noted
        self._states.keep(known)
        return outcome

    def close(self) -> None:
        """Leave."""
        if not self._lent:
            self._writer.abandon()
        self._db.close()

    # -- taking over -------------------------------------------------------------------------

    def _publish_rest(self) -> None:
        """c. Sent again is as good as sent once: the topics are compacted."""
        left = [
            self._state_record(component, key, doc)
            for component, key, _, doc in self._db.unpublished(self.partition)
        ]
        for start in range(0, len(left), SENT_AGAIN):
            self._writer.write(left[start : start + SENT_AGAIN])

    # -- the steps of a batch ----------------------------------------------------------------

    def _load(self, raws: Sequence[Raw]) -> Loaded:
        """1. Of what the records name, and of what need not wait any more."""
        waiting = self._fold.releasable(self._outside.epochs(()))
        return self._states.of(self._intake.keys(raws) | waiting)

    def _read_back_and_fold(self, raws: Sequence[Raw], known: Loaded) -> Outcome:
        """2. and 3., a chunk at a time; once without any record: what waits goes on."""
        outcome = Outcome()
        for start in range(0, max(1, len(raws)), CHUNK):
            chunk = self._intake.decoded(raws[start : start + CHUNK])
            missing = self._fold.missing_before(chunk)
            if missing:
                chunk = self._intake.read_back(missing, raws) + chunk
            self._fold.fold(chunk, known, self._outside.epochs(chunk), outcome)
        return outcome

    def _keep_and_report(self, outcome: Outcome) -> None:
        """3. Before positions move in PostgreSQL: behind them a problem is not met again."""
        self._intake.pass_over(self._fold.positions)
        if outcome.problems:
            self._outside.problems(self.partition, outcome.problems)

    def _change(self, outcome: Outcome, known: Loaded) -> _Change:
        """The rows and records of a batch, for 4 and 5; a state is encoded once for both.

        The row of a fact that waited gets the `seq` at which it changed, not the fact's own: else
        the next owner would hold its state for published long ago. So it would, too, had its
        topic not moved since all of it was published; `published` is lowered then.
        """
        change = _Change({}, [], dict(self._published))
        waited = PartitionFold.keys(outcome.released)
        for at, value in outcome.changed.items():
            component, key = at
            state, gone, seq = value.state, NOWHERE, None
            if state is None:
                gone = self._gone(outcome, at, known)
            if at in waited:
                topic = gone.topic if state is None else topic_of(component, state)
                seq = self._changed_at(topic, change.published)
            made = row(component, key, value, gone, seq)
            change.rows.setdefault(component, []).append(made)
            change.records.append(self._state_record(component, key, made[DOC]))
        return change

    def _gone(self, outcome: Outcome, key: Key, known: Loaded) -> Gone:
        item = outcome.deleted[key]
        state = known.before[key].state
        home = state.home if state is not None else ""
        return Gone(item.topic, self.partition, item.fact.envelope.seq, home)

    def _changed_at(self, topic: str, published: dict[str, int]) -> int | None:
        position = self._fold.positions.get(topic)
        if position is None:
            return None
        published[topic] = min(published.get(topic, 0), position.seq - 1)
        return position.seq

    def _seqs(self) -> dict[str, int]:
        return {t: p.seq for t, p in self._fold.positions.items()}

    def _state_record(self, component: str, key: str, doc: bytes | None) -> Record:
        topic = state_topic(self._home.generation, component)
        return Record(topic, self.partition, key, doc, [])
