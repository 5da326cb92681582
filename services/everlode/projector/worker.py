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

A fact that cannot be applied (4 or its encoding refuses it: ContractError, the same each time) must
not stop the others. Nothing of its batch is written; the fold is begun again from PostgreSQL, and
the batch is applied in halves until one record is left. What that record lets go on may be several
facts, its own and such as waited; which of them it is, trials show that are undone. That fact
becomes a dead letter, is noted (`unapplied`), and waits with its key, for good in this generation.
What a store says of itself (Unavailable, IntegrityError) blames no record, and ends the batch.

Shell; one thread a partition.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from everlode.adapters.kafka import Raw, Record
from everlode.adapters.kafka_writer import Writer
from everlode.adapters.postgres import Projection, Taken
from everlode.errors import ContractError
from everlode.log.learn import Learn, no_learning
from everlode.projection.fold import Epochs, Incoming, Key, Outcome, PartitionFold, Prefix
from everlode.projection.halves import first_refused, in_halves
from everlode.projection.tables import DOC, NOWHERE, Gone, row, topic_of
from everlode.projector.epochs import Bounded, Decided, no_bounds, no_waiting
from everlode.projector.findings import ReportProblems, no_report
from everlode.projector.intake import Intake
from everlode.projector.states import Loaded, States
from everlode.telemetry.entries import RecordLeftOut
from everlode.telemetry.sink import Sink, silent
from everlode.topics.names import regions_of, state_topic

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


class Lent(NamedTuple):
    """What a caller has opened already for one partition number, and closes itself."""

    writer: Writer
    """Of the partition's transactional id."""
    db: Projection
    """Of the generation; by the worker alone while there is one."""


class Outside(NamedTuple):
    """What a worker asks of others, and reports to them."""

    learn: Learn = no_learning
    """Waits for an unknown schema."""
    epochs: Decided = no_waiting
    """Waits for epochs to be decided."""
    problems: ReportProblems = no_report
    """Gets problems; the same ones again after a crash."""
    report: Sink = silent
    """Gets the facts that are left out."""
    bounds: Bounded = no_bounds
    """Asked after `epochs`."""


NOTHING_OUTSIDE = Outside()


class _Folded(NamedTuple):
    """A batch after step 3."""

    raws: Sequence[Raw]
    before: Mapping[str, Prefix]
    """Positions that it began from."""
    known: Loaded
    outcome: Outcome


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
        lent: Lent | None = None,
    ) -> None:
        """Take the partition over and publish what was left unpublished. Raises: Unavailable."""
        self.partition = partition
        self._home = home
        self._outside = outside
        owner = f"{home.node_id}/{partition}/{uuid.uuid4().hex[:8]}"  # of this takeover alone
        self._lent = lent is not None
        if lent is not None:
            self._db, self._writer = lent.db.owned_by(owner), lent.writer
        else:
            self._db = Projection(home.conninfo, home.generation, owner)
            name = f"projector.{home.region}.g{home.generation}.{partition}"
            self._writer = Writer(home.bootstrap, name)
        self._intake = Intake(home.bootstrap, partition, home.node_id, outside.learn)
        self._states = States(self._db.known)
        taken = self._db.take(partition, topics, self._intake.waiting)  # a. owner
        if not self._lent:
            self._writer.open()  # b. transactional id
        self._regions = regions_of(topics)
        self._fold = self._fold_of(taken)
        self._fold.refused = taken.refused
        self._refused: dict[tuple[str, int], Incoming] = {}
        """(topic, offset) of facts that cannot be applied, and are not noted yet."""
        self._steps: Sequence[Incoming] = ()
        """What the batch in hand has folded, when it is of one record."""
        self._publish_rest()  # c. what was left unpublished
        self._published = self._seqs()
        self._written = self._offsets()

    def _fold_of(self, taken: Taken) -> PartitionFold:
        standing = taken.positions, taken.opened, taken.parked
        fold = PartitionFold(self.partition, *standing, self._regions)
        fold.fenced_at = dict(taken.fenced_at)
        return fold

    def positions(self) -> dict[str, Prefix]:
        """Where the partition number stands, a topic each."""
        return self._fold.positions

    def written(self) -> dict[str, int]:
        """Topic → offset of the next record, as far as it is written; from any thread.

        While a batch is under way `positions` are ahead of it.
        """
        return self._written

    def owns(self) -> bool:
        """True while no other has taken the partition over. Raises: Unavailable."""
        return self._db.owns(self.partition)

    def apply(self, raws: Sequence[Raw], counter: str) -> Outcome:
        """Apply records of this partition number, in order; returns once they are published.

        `counter` names how they came (live or bulk). Records before the position have been
        applied or quarantined, and are passed over; one of another cluster has an offset below 0,
        a place of its own that moves no position. Raises: FencedOut: another took the
        partition. Unavailable: some first records, or none, have been applied, the last of them
        perhaps up to step 4. IntegrityError.
        """
        whole, *parts = in_halves(raws, partial(self._all, counter), partial(self._but, counter))
        for later in parts:
            whole.add(later)
        self._intake.done()
        return whole

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
            self._writer.put(left[start : start + SENT_AGAIN])

    # -- what cannot be applied --------------------------------------------------------------

    def _all(self, counter: str, raws: Sequence[Raw]) -> Outcome:
        """All of these, or nothing. Raises: ContractError: one of them cannot be applied."""
        try:
            return self._write(self._folded(raws), counter)
        except ContractError:
            self._begin_again()
            raise

    def _but(self, counter: str, raws: Sequence[Raw], error: ContractError) -> Outcome:
        """One record, or none, and what waits; without the facts that cannot be applied."""
        while True:
            if not self._steps:
                raise error  # of what was not even folded nothing can be left out
            self._refuse(self._first_bad(raws, self._steps), error, raws)
            try:
                return self._all(counter, raws)
            except ContractError as another:
                error = another

    def _first_bad(self, raws: Sequence[Raw], steps: Sequence[Incoming]) -> Incoming:
        """The first of the folded facts with which the batch cannot be applied any more."""

        def applies(count: int) -> bool:
            self._fold.refused |= {(item.topic, item.offset) for item in steps[count:]}
            try:
                batch = self._folded(raws)
                with self._db.trial():
                    self._rows(batch, "trial")
            except ContractError:
                return False
            finally:
                self._begin_again()
            return True

        return steps[first_refused(len(steps), applies) - 1]

    def _refuse(self, item: Incoming, error: ContractError, raws: Sequence[Raw]) -> None:
        place = (item.topic, item.offset)
        self._refused[place] = item
        self._fold.refused.add(place)
        self._intake.quarantine(item, error, raws)
        self._outside.report(RecordLeftOut(item.topic, self.partition, item.offset, error.message))

    def _begin_again(self) -> None:
        """Forget what a batch that was not written has made of the fold."""
        taken = self._db.standing(self.partition, self._intake.waiting)
        self._fold = self._fold_of(taken)
        self._fold.refused = taken.refused | self._refused.keys()
        self._intake.again()

    # -- the steps of a batch ----------------------------------------------------------------

    def _folded(self, raws: Sequence[Raw]) -> _Folded:
        """1. to 3.; all in memory."""
        self._steps = ()
        at = self._fold.positions
        before = {t: Prefix(p.seq, p.stamp, p.next_offset) for t, p in at.items()}
        raws = [
            r
            for r in raws
            if r.topic not in at or r.offset < 0 or r.offset >= at[r.topic].next_offset
        ]
        known = self._load(raws)  # 1. load
        outcome = self._read_back_and_fold(raws, known)  # 2. read back, 3. fold
        self._steps = outcome.steps
        return _Folded(raws, before, known, outcome)

    def _write(self, batch: _Folded, counter: str) -> Outcome:
        outcome = batch.outcome
        for item in self._refused.values():
            version = item.fact.envelope.version
            outcome.note("unapplied", item, version, version)
        self._keep_and_report(batch)
        change = self._rows(batch, counter)  # 4. PostgreSQL
        if change.records:
            self._writer.put(change.records)  # 5. state topics
        self._published = self._seqs()  # 6. noted
        self._written = self._offsets()
        self._states.keep(batch.known)
        self._refused.clear()
        self._steps = ()  # they hold the records
        return outcome

    def _rows(self, batch: _Folded, counter: str) -> _Change:
        """4. Raises: ContractError: a state cannot be encoded, or a row not be stored."""
        change = self._change(batch.outcome, batch.known)
        self._db.apply(
            self._fold, batch.before, batch.outcome, change.rows, change.published, counter
        )
        return change

    def _load(self, raws: Sequence[Raw]) -> Loaded:
        """1. Of what the records name, and of what need not wait any more."""
        epochs = self._epochs(())
        waiting = self._fold.releasable(epochs)
        return self._states.of(self._intake.keys(raws) | waiting)

    def _read_back_and_fold(self, raws: Sequence[Raw], known: Loaded) -> Outcome:
        """2. and 3., a chunk at a time; once without any record: what waits goes on."""
        outcome = Outcome(traced=len(raws) <= 1)
        for start in range(0, max(1, len(raws)), CHUNK):
            chunk = self._intake.decoded(raws[start : start + CHUNK])
            missing = self._fold.missing_before(chunk)
            if missing:
                chunk = self._intake.read_back(missing, raws) + chunk
            self._fold.fold(chunk, known, self._epochs(chunk), outcome)
        return outcome

    def _epochs(self, chunk: Sequence[Incoming]) -> Epochs | None:
        """What has been decided; the fold's bounds are never older than that."""
        epochs = self._outside.epochs(chunk)
        self._fold.bound(self._outside.bounds(self.partition))
        return epochs

    def _keep_and_report(self, batch: _Folded) -> None:
        """3. Before positions move in PostgreSQL: behind them a problem is not met again."""
        outcome = batch.outcome
        for item, error in outcome.unlawful:
            self._intake.quarantine(item, error, batch.raws)
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

    def _offsets(self) -> dict[str, int]:
        return {t: p.next_offset for t, p in self._fold.positions.items()}

    def _state_record(self, component: str, key: str, doc: bytes | None) -> Record:
        topic = state_topic(self._home.generation, component)
        return Record(topic, self.partition, key, doc, [])
