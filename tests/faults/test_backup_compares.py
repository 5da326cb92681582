"""What a backup gathers of one partition number is compared, whatever its stores have lost.

The logs are on a mock broker, and the database is a dictionary: see test_backup_faults for both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, nullcontext

import pytest

from everlode.adapters.kafka import Reader
from everlode.adapters.postgres import Projection
from everlode.avro.codec import Codec, encode_fact, encode_state
from everlode.backup import cut, spill
from everlode.backup.asked import Source
from everlode.backup.gather import Gatherer
from everlode.backup.partition import PartitionCut
from everlode.errors import IntegrityError
from everlode.events.catalogue import FACT_COMPONENTS, STATE_COMPONENTS
from everlode.projection.fold import Key, Known
from everlode.state.dispatch import evolve_fact
from everlode.telemetry.sink import silent
from everlode.topics import Topology
from everlode.topics.names import state_topic
from tests.support.facts.poison import append, mock_broker
from tests.support.world.projecting import barrier, fact, opened, topic_of

pytestmark = pytest.mark.timeout(60)
KEYS, VERSIONS = 40, 3
LAST = 1 + KEYS * VERSIONS
"""The `seq` of the last fact; an opening comes first."""
T = 1 + 2 * KEYS + KEYS // 2
"""So that of half of the keys the last version is behind it."""
TASKS = topic_of("tasks")


def names() -> list[str]:
    return [f"task-{n}" for n in range(KEYS)]


def facts() -> Iterator[tuple[str, int, int]]:
    """(key, version, seq) in the order of the log: all first versions, all second ones, …"""
    seq = 1
    for version in range(1, VERSIONS + 1):
        for key in names():
            seq += 1
            yield key, version, seq


def states(upto: int) -> dict[str, Known]:
    """Of each task, by the facts up to a `seq`."""
    found: dict[str, Known] = {}
    for key, version, seq in facts():
        if seq <= upto:
            before = found[key].state if key in found else None
            found[key] = Known(
                evolve_fact(before, fact("tasks", key, version, seq), 0), version, ""
            )
    return found


class Rows:
    """A database with the rows of these tasks, whose projector stands at `LAST`."""

    generation = 1

    def __init__(self, rows: Mapping[str, Known]) -> None:
        self.rows = rows

    def at_one_moment(self, *, held: bool) -> nullcontext[None]:
        assert held
        return nullcontext()

    def query(self, text: str, *_: object) -> list[tuple[object, ...]]:
        if ".positions" in text:
            return [(TASKS, 0, LAST, LAST << 16, LAST), (topic_of("miners"), 0, 1, T << 16, 1)]
        if "count" in text:
            return [(len(self.rows) if ".tasks" in text else 0,)]
        if "to_regclass" in text:
            return [(None,)]
        return [(TASKS, 0, "task-manager/eu", 1, 0)] if ".opened" in text else []

    def stream(self, text: str, *_: object) -> Iterator[tuple[object, ...]]:
        if ".tasks" in text and "not null" in text:
            for key, known in self.rows.items():
                assert known.state is not None
                digest = hashlib.sha256(encode_state(known.state)).digest()
                yield key, known.version, known.state.stamp, digest, False, False

    def known(self, keys: Iterable[Key]) -> dict[Key, Known]:
        return {key: self.rows[key[1]] for key in keys}

    def close(self) -> None:
        pass


class Gathering(Gatherer):
    """Of a database that is a dictionary."""

    of: Mapping[str, Known]

    def _projection(self) -> Projection:
        return Rows(self.of)  # type: ignore[return-value]


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """With the facts, and no state record yet. Times are not known to it: all begins at 0."""
    monkeypatch.setattr(Reader, "at_time", lambda _, places: dict.fromkeys(places, 0))
    monkeypatch.setattr(spill, "SLICE_KEYS", 7)
    monkeypatch.setattr(spill, "BUFFER", 1)
    with mock_broker() as found:
        for component in FACT_COMPONENTS:
            append(found, topic_of(component), [])
        for component in STATE_COMPONENTS:
            append(found, state_topic(1, component), [])
        log = [opened("tasks", 1, 1), *(fact("tasks", *item) for item in facts())]
        append(found, TASKS, [(i.envelope.aggregate_id.encode(), encode_fact(*i)) for i in log])
        mark = barrier("miners", 1)
        late = mark._replace(envelope=mark.envelope.model_copy(update={"stamp": T << 16}))
        append(found, topic_of("miners"), [(b"p", encode_fact(*late))])
        yield found


def published(broker: str, found: Iterable[tuple[str, Known]]) -> None:
    """Their records in the state topic."""
    append(
        broker,
        state_topic(1, "tasks"),
        [(k.encode(), encode_state(v.state)) for k, v in found if v.state is not None],
    )


def cut_of(broker: str, rows: Mapping[str, Known]) -> tuple[dict[str, Known], PartitionCut]:
    """The states of the cut, and what it was compared with."""
    Gathering.of = rows
    topology = Topology(regions=("eu",))
    with (
        closing(Gathering(Source("eu", broker, "", topology), 1, Codec())) as gatherer,
        closing(gatherer.partition(0)) as gathered,
    ):
        assert len(gathered.slices.of_component("tasks")) > 4
        found = PartitionCut(gatherer, gathered, silent)
        assert [list(found.states(c)) for c in STATE_COMPONENTS if c != "tasks"] == [[]] * 4
        tasks = list(found.states("tasks"))
        assert len(dict(tasks)) == len(tasks)
        return dict(tasks), found


def comparable(found: Mapping[str, Known]) -> dict[str, object]:
    return {key: known.state for key, known in found.items()}


@pytest.mark.parametrize("lost", ["nothing", "all", "half", "old", "newest"])
def test_cut_is_the_fold_up_to_the_stamp_whatever_the_state_topic_has_lost(
    broker: str, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """Though only facts of the last moments are kept at first."""
    monkeypatch.setattr(cut, "WINDOWS_MS", (5, 20, 1 << 62))
    now = states(LAST)
    there: dict[str, list[tuple[str, Known]]] = {
        "nothing": [*states(1 + KEYS).items(), *states(T).items(), *now.items()],
        "all": [],
        "half": [item for n, item in enumerate(states(T).items()) if n % 2],
        "old": [*now.items()],
        "newest": [*states(1 + KEYS).items()],
    }
    published(broker, there[lost])
    found, by = cut_of(broker, now)
    assert comparable(found) == comparable(states(T))
    assert (by.rows, by.without_row) == (KEYS, 0)
    unchanged = {key for key, known in now.items() if known.state == states(T)[key].state}
    half = {key for n, key in enumerate(names()) if n % 2 == 0}
    lacking = {"nothing": set(), "all": unchanged, "half": unchanged & half, "old": set(),
               "newest": unchanged}  # fmt: skip
    assert by.from_rows == len(lacking[lost])
    assert by.positions[TASKS].seq == T
    assert by.fences == {(TASKS, "task-manager/eu"): 1}


def test_states_whose_rows_are_lost_are_kept_and_counted(broker: str) -> None:
    published(broker, states(T).items())
    now = states(LAST)
    found, by = cut_of(broker, {key: now[key] for key in names()[: KEYS // 2]})
    assert comparable(found) == comparable(states(T))
    assert (by.rows, by.without_row) == (KEYS // 2, KEYS // 2)


def test_row_of_another_state_stops_the_backup_by_name(broker: str) -> None:
    now = states(LAST)
    published(broker, now.items())
    other = now["task-3"].state
    assert other is not None
    rows = now | {"task-3": now["task-3"]._replace(state=other._replace(origin="us.1"))}
    with pytest.raises(IntegrityError, match=r"state\.g1\.tasks/0: task-3 has another") as caught:
        cut_of(broker, rows)
    assert caught.value.code == "state_conflict"


def test_rows_whose_facts_are_gone_too_stop_the_backup_by_name(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have changed since the cut, no topic has what they were, and the log begins later."""
    monkeypatch.setattr(Reader, "at_time", lambda _, places: dict.fromkeys(places, T - 10))
    with pytest.raises(
        IntegrityError, match=r"partition 0: facts of .* keys, e\.g\. tasks"
    ) as caught:
        cut_of(broker, states(LAST))
    assert caught.value.code == "snapshot_gap"


def test_state_topic_that_is_not_there_is_not_an_empty_one(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everlode.backup.gather.STATE_COMPONENTS", (*STATE_COMPONENTS, "never"))
    with pytest.raises(IntegrityError, match=r"state topic state\.g1\.never is not") as caught:
        cut_of(broker, {})
    assert caught.value.code == "topic_lost"
