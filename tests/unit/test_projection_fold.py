"""The projection's fold: repeats, conflicts, gaps, fences; whatever the batches are."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from everlode.avro.codec import encode_fact
from everlode.events.barriers import Barrier, EpochOpened
from everlode.events.base import Envelope, Event, Fact, ScopeEpoch
from everlode.events.tasks import TaskAssigned, TaskCancelled, TaskProgressed, TaskSubmitted
from everlode.projection.fold import (
    UNKNOWN,
    Incoming,
    Key,
    Known,
    Outcome,
    PartitionFold,
    Prefix,
)
from everlode.projection.tables import Gone, column_names, row
from tests.support.world.projecting import REGIONS

TOPIC = "eu.1.tasks"
SCOPE = "task-manager/eu"
AT = datetime(2026, 1, 1, tzinfo=UTC)
SUBMITTED = TaskSubmitted(
    client_id="c", task_type="inference", payload_uri="u", payload_sha256="a" * 64,
    payload_bytes=1, cpu_milli=1, memory_mib=1, gpus=0, gpu_milli=0, base_reward_micro=1,
    max_attempts=3, deadline_at=AT + timedelta(days=1), planted_sha256=None,
)  # fmt: skip
ASSIGNED = TaskAssigned(
    attempt=1, miner_id="m", manager_node="n", lease_until=AT + timedelta(hours=1),
    base_reward_micro=1,
)  # fmt: skip


def progressed(ppm: int) -> TaskProgressed:
    return TaskProgressed(
        miner_id="m", attempt=1, progress_ppm=ppm, lease_until=AT + timedelta(hours=1),
    )  # fmt: skip


class Tape:
    """Writes one partition as its one writer does."""

    def __init__(self, topic: str = TOPIC) -> None:
        self.topic = topic
        self.seq = 0

    def put(
        self,
        key: str,
        version: int,
        data: Event,
        *,
        epoch: int = 1,
        event_id: str = "",
        skip: int = 0,
        scope: str = SCOPE,
    ) -> Incoming:
        self.seq += 1 + skip
        envelope = Envelope(
            event_id=event_id or f"{key}-{version}", aggregate_id=key, version=version,
            origin="eu.1", scope=scope, epoch=epoch, seq=self.seq, stamp=1000 + self.seq,
            occurred_at=AT + timedelta(seconds=self.seq), correlation_id=key,
        )  # fmt: skip
        return Incoming(self.topic, self.seq - 1, Fact(envelope, data), encode_fact(envelope, data))

    def opened(self, epoch: int, scope: str = SCOPE) -> Incoming:
        scopes = (ScopeEpoch(scope=scope, epoch=epoch),)
        return self.put("e", 0, EpochOpened(node_id="n", scopes=scopes), epoch=epoch)

    def story(self, key: str) -> list[Incoming]:
        """A lawful task: submitted, assigned, three times progressed, cancelled."""
        steps = [SUBMITTED, ASSIGNED, *(progressed(n * 100_000) for n in (1, 2, 3))]
        found = [self.put(key, n + 1, data) for n, data in enumerate(steps)]
        return [*found, self.put(key, 6, TaskCancelled(reason="r"))]


class Store:
    """What a database would keep between batches."""

    def __init__(self) -> None:
        self.fold = PartitionFold(0, {}, {}, [], REGIONS)
        self.states: dict[Key, Known] = {}
        self.parked: dict[tuple[str, int], Incoming] = {}

    def take(self, batch: list[Incoming]) -> Outcome:
        known = {k: self.states.get(k, UNKNOWN) for k in PartitionFold.keys(batch)}
        out = self.fold.fold(batch, known)
        self.states.update(out.changed)
        self.parked.update({(i.topic, i.offset): i for i in out.parked})
        for item in out.released:
            self.parked.pop((item.topic, item.offset), None)
        return out

    def restart(self) -> None:
        """As a projector that was killed: only what is stored is left."""
        positions = {t: replace(p) for t, p in self.fold.positions.items()}
        self.fold = PartitionFold(
            0, positions, self.fold.opened, list(self.parked.values()), REGIONS
        )


def test_worked_picture_of_the_fold_is_true() -> None:
    """The table at the head of `projection.fold`, row by row."""
    store, tape, decided = Store(), Tape(), {SCOPE: 2}
    lost = Tape()
    lost.seq = 2
    rows = [
        tape.put("t1", 1, SUBMITTED),
        tape.put("t2", 1, SUBMITTED),
        tape.put("t1", 3, progressed(1), skip=1),
        again := tape.put("t2", 2, ASSIGNED),
        lost.put("t1", 2, ASSIGNED),
        again,
        tape.opened(2),
        tape.put("t2", 3, progressed(1), epoch=1),
        tape.put("t2", 3, progressed(1), epoch=3),
        tape.put("t2", 4, progressed(2), epoch=3),
    ]
    became = []
    for item in rows:
        known = {k: store.states.get(k, UNKNOWN) for k in PartitionFold.keys([item])}
        out = store.fold.fold([item], known, decided)
        store.states.update(out.changed)
        kinds = [problem.kind for problem in out.problems]
        became.append((item.fact.envelope.seq, out.folded, out.repeats, len(out.parked), kinds))
    assert became == [
        (1, 1, 0, 0, []),
        (2, 1, 0, 0, []),
        (4, 0, 0, 1, ["seq_gap", "version_gap"]),
        (5, 1, 0, 0, []),
        (3, 2, 0, 0, []),
        (5, 0, 1, 0, []),
        (6, 0, 0, 0, []),
        (7, 0, 0, 0, ["fenced"]),
        (8, 0, 0, 1, ["unknown_epoch"]),
        (9, 0, 0, 1, []),
    ]


def kinds(out: Outcome) -> list[str]:
    return [p.kind for p in out.problems]


def test_lawful_facts_fold_to_the_last_version() -> None:
    store, tape = Store(), Tape()
    out = store.take(tape.story("t"))
    assert (out.folded, out.repeats, out.problems) == (6, 0, [])
    known = store.states["tasks", "t"]
    assert (known.version, known.event_id) == (6, "t-6")
    assert known.state is not None
    assert known.state.status == "cancelled"
    assert store.fold.positions[TOPIC].next_offset == 6


def test_same_event_again_is_a_repeat_and_changes_nothing() -> None:
    store, tape = Store(), Tape()
    story = tape.story("t")
    store.take(story)
    before = dict(store.states)
    out = store.take(story)
    assert (out.folded, out.repeats, out.changed, out.problems) == (0, 6, {}, [])
    assert store.states == before


def test_same_version_with_another_id_is_a_conflict_and_the_first_stays() -> None:
    store, tape = Store(), Tape()
    store.take([tape.put("t", 1, SUBMITTED)])
    out = store.take([tape.put("t", 1, SUBMITTED, event_id="other")])
    assert kinds(out) == ["conflict"]
    assert out.problems[0].event_id == "other"
    assert store.states["tasks", "t"].event_id == "t-1"


def test_same_version_as_a_restored_state_without_id_is_a_repeat() -> None:
    store, tape = Store(), Tape()
    first = tape.put("t", 1, SUBMITTED)
    store.take([first])
    store.states["tasks", "t"] = store.states["tasks", "t"]._replace(event_id="")
    assert (store.take([first]).repeats, store.take([first]).problems) == (1, [])


def test_version_gap_stops_that_key_alone_until_it_is_filled() -> None:
    store, tape = Store(), Tape()
    story = tape.story("gap")
    out = store.take([story[0], *story[2:], *tape.story("other")])
    assert kinds(out) == ["seq_gap", "version_gap"]
    gap = out.problems[1]
    assert (gap.key, gap.expected, gap.found) == ("gap", 2, 3)
    assert store.states["tasks", "gap"].version == 1
    assert store.states["tasks", "other"].version == 6
    assert len(store.parked) == 4
    out = store.take([story[1]])
    assert out.folded == 5
    assert store.states["tasks", "gap"].version == 6
    assert store.parked == {}


def test_parked_facts_survive_a_restart() -> None:
    store, tape = Store(), Tape()
    story = tape.story("t")
    store.take([story[0], *story[2:4]])
    store.restart()
    store.take(story[4:])
    store.restart()
    store.take([story[1]])
    assert store.states["tasks", "t"].version == 6
    assert store.parked == {}


def test_parked_fact_again_is_a_repeat() -> None:
    store, tape = Store(), Tape()
    story = tape.story("t")
    store.take([story[2]])
    out = store.take([story[2]])
    assert (out.repeats, out.parked, out.problems) == (1, [], [])


def test_parked_version_again_with_another_id_is_a_conflict_and_the_first_stays() -> None:
    store, tape = Store(), Tape()
    first = tape.put("t", 1, SUBMITTED)
    store.take([tape.put("t", 2, ASSIGNED)])
    out = store.take([tape.put("t", 2, ASSIGNED, event_id="other")])
    assert (kinds(out), out.repeats) == (["conflict"], 0)
    assert out.problems[0].event_id == "other"
    store.take([first])
    assert store.states["tasks", "t"].event_id == "t-2"


def test_seq_gap_is_noted_with_place_and_numbers() -> None:
    store, tape = Store(), Tape()
    out = store.take([tape.put("a", 1, SUBMITTED), tape.put("b", 1, SUBMITTED, skip=4)])
    assert kinds(out) == ["seq_gap"]
    found = out.problems[0]
    assert (found.topic, found.offset, found.expected, found.found) == (TOPIC, 5, 2, 6)


def test_lower_epoch_after_its_scope_opened_is_fenced() -> None:
    store, tape = Store(), Tape()
    out = store.take(
        [
            tape.put("t", 1, SUBMITTED, epoch=1),
            tape.opened(2),
            tape.put("t", 2, ASSIGNED, epoch=1, event_id="old"),
            tape.put("t", 2, ASSIGNED, epoch=2),
        ]
    )
    assert kinds(out) == ["fenced"]
    assert out.problems[0].event_id == "old"
    assert out.opened == {(TOPIC, SCOPE): 2}
    assert store.states["tasks", "t"].event_id == "t-2"


def test_fence_of_one_scope_leaves_another_alone_and_outlives_a_restart() -> None:
    store, tape = Store(), Tape()
    store.take([tape.opened(5)])
    store.restart()
    out = store.take(
        [
            tape.put("a", 1, SUBMITTED, epoch=4),
            tape.put("b", 1, SUBMITTED, epoch=1, scope="task-manager/us"),
        ]
    )
    assert kinds(out) == ["fenced"]
    assert ("tasks", "a") not in store.states
    assert store.states["tasks", "b"].version == 1


def test_fact_that_cannot_follow_is_a_problem_and_the_state_stays() -> None:
    store, tape = Store(), Tape()
    out = store.take([tape.put("t", 1, ASSIGNED), tape.put("u", 1, SUBMITTED)])
    assert kinds(out) == ["unlawful"]
    assert store.states.get(("tasks", "t"), UNKNOWN).version == 0
    assert store.states["tasks", "u"].version == 1


def test_barriers_move_positions_and_nothing_else() -> None:
    store, tape = Store(), Tape()
    out = store.take([tape.put("w", 0, Barrier(writer_id="w")), tape.opened(1)])
    assert (out.marks, out.folded, out.changed) == (2, 0, {})
    assert (store.fold.positions[TOPIC].seq, store.fold.positions[TOPIC].stamp) == (2, 1002)


def test_missing_before_names_what_to_read_back() -> None:
    fold = PartitionFold(0, {TOPIC: Prefix(4, 1004, 7)}, {}, [], REGIONS)
    tape = Tape()
    tape.seq = 4
    assert fold.missing_before([tape.put("t", 1, SUBMITTED)]) == {}
    assert fold.missing_before([tape.put("t", 2, ASSIGNED)]) == {TOPIC: (7, 5)}


def test_row_has_a_value_for_every_column_and_a_deleted_one_keeps_its_version() -> None:
    store, tape = Store(), Tape()
    store.take(tape.story("t"))
    known = store.states["tasks", "t"]
    values = dict(zip(column_names("tasks"), row("tasks", "t", known), strict=True))
    assert (values["version"], values["status"], values["home"]) == (6, "cancelled", "eu")
    buried = row("tasks", "t", Known(None, 7, "t-7"), Gone(TOPIC, 1, 9, "eu"))
    values = dict(zip(column_names("tasks"), buried, strict=True))
    assert (values["version"], values["status"], values["doc"]) == (7, "deleted", None)
    assert (values["topic"], values["part"], values["seq"]) == (TOPIC, 1, 9)


@given(st.data())
def test_any_batches_any_order_of_keys_any_restarts_give_the_same_states(
    data: st.DataObject,
) -> None:
    """Keys interleave at random, batches are cut at random, some come twice, some after a kill."""
    streams = [Tape().story(key) for key in ("a", "b", "c")]
    tape, mixed, left = Tape(), [], [list(s) for s in streams]
    while any(left):
        source = data.draw(st.sampled_from([s for s in left if s]))
        fact = source.pop(0).fact
        mixed.append(tape.put(fact.envelope.aggregate_id, fact.envelope.version, fact.data))
    store, at = Store(), 0
    while at < len(mixed):
        end = data.draw(st.integers(at + 1, len(mixed)))
        store.take(mixed[at:end])
        if data.draw(st.booleans()):
            store.restart()
            at = data.draw(st.integers(max(0, end - 3), end))
        else:
            at = end
    assert {key[1]: known.version for key, known in store.states.items()} == {
        "a": 6, "b": 6, "c": 6,
    }  # fmt: skip
    assert all(k.state is not None and k.state.status == "cancelled" for k in store.states.values())
    assert store.parked == {}
    assert store.fold.positions[TOPIC] == Prefix(18, 1018, 18)
