"""The sums over archived validations: whole after a restart, whatever was written when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from everlode.events.snapshots import SnapshotTally
from everlode.events.states import ValidationState
from everlode.snapshots.past import Past
from tests.support.facts.judged import judged

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("archive"), st.integers(0, 5), st.booleans(), st.booleans()),
        st.tuples(st.just("page")),
        st.tuples(st.just("page that is lost")),
    ),
    max_size=40,
)
MINERS = ("a", "b", "voter", "x")


class Topic:
    """One partition of the archive, and the sums in the snapshot."""

    def __init__(self) -> None:
        self.records: list[ValidationState] = []
        self.tallies: dict[bytes, SnapshotTally] = {}
        self.paged = 0

    def before(self, at: int) -> ValidationState | None:
        """What stood there for the same validation."""
        key = self.records[at].key
        return next((r for r in reversed(self.records[:at]) if r.key == key), None)

    def read(self, past: Past, start: int) -> None:
        """Go through it, as whoever starts does."""
        for at in range(start, len(self.records)):
            past.archived((0, at), self.records[at], self.before(at), held=False)


@given(STEPS)
def test_sums_after_a_restart_are_those_of_all_that_was_archived(
    steps: list[tuple[str, int, bool, bool]],
) -> None:
    topic, running = Topic(), Past()
    for step in steps:
        if step[0] == "archive":
            _, number, good, expert = step
            topic.records.append(judged(f"v{number}", "ab"[number % 2], good=good, expert=expert))
            at = len(topic.records) - 1
            running.archived((0, at), topic.records[at], topic.before(at), held=False)
            continue
        due = running.due(0, len(topic.records))
        if step[0] == "page":
            topic.tallies.update(due)
            topic.paged = len(topic.records)
            for _, tally in due:
                running.written(0, tally)
    fresh, full = Past(), Past()
    fresh.start({0: list(topic.tallies.values())})
    topic.read(fresh, topic.paged)
    topic.read(full, 0)
    for miner in MINERS:
        assert fresh.sums("eu", miner) == running.sums("eu", miner) == full.sums("eu", miner)
        newest = {record.key: record for record in topic.records}
        alone = Past()
        for at, record in enumerate(newest.values()):
            alone.archived((1, at), record, None, held=False)
        assert alone.sums("eu", miner) == full.sums("eu", miner)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=20))
def test_what_is_in_memory_again_is_not_counted_twice(
    steps: list[tuple[int, bool, bool]],
) -> None:
    """It is archived, comes back changed, and is archived again."""
    past = Past()
    memory: dict[str, ValidationState] = {}
    archived: dict[str, ValidationState] = {}
    for at, (number, good, archives) in enumerate(steps):
        key = f"v{number}"
        if key not in memory and key in archived:
            past.returned(archived[key])
        memory[key] = judged(key, "a", good=good, expert=True)
        if archives:
            past.archived((0, at), memory[key], archived.get(key), held=True)
            archived[key] = memory.pop(key)
            past.left(key)
        alone = Past()
        for n, state in enumerate(state for k, state in archived.items() if k not in memory):
            alone.archived((0, n), state, None, held=False)
        assert past.sums("eu", "a") == alone.sums("eu", "a")


def test_sums_of_another_fold_are_written_over() -> None:
    past = Past()
    stale = SnapshotTally("eu", "a", 9, 1, 0, 5, 2, 0, 0)
    past.start({0: [stale]}, anew=True)
    assert past.sums("eu", "a") == (0,) * 8
    ((_, tally),) = past.due(0, 20)
    assert tally == SnapshotTally("eu", "a", 20, 0, 0, 0, 0, 0, 0)


def test_nothing_but_validations_counts() -> None:
    past = Past()
    past.archived((0, 0), None, None, held=False)
    past.left("anything")
    assert past.due(0, 1) == []
