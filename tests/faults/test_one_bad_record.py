"""A fact that decodes, and that no store takes: it is found, kept and named; its key alone stops.

As an older writer may have left it, before the door said what may come in. On real parts.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from everlode.avro.codec import Codec
from everlode.errors import IntegrityError, Unavailable
from everlode.events.base import Event, Fact
from everlode.events.catalogue import FACT_COMPONENTS
from everlode.events.miners import MinerRegistered, StakeDeposited
from everlode.projector.worker import Outside
from everlode.telemetry.entries import Entry, RecordLeftOut
from everlode.topics.names import fact_topic
from tests.support.world.projected import Lab, as_other, histories
from tests.support.world.projecting import fact

pytestmark = pytest.mark.timeout(180)
HISTORY = histories()
MOST = 2**63 - 1


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("bad")) as found:
        yield found


@pytest.fixture
def lab(running: Lab) -> Iterator[Lab]:
    running.project()
    yield running
    running.leave()


def letters(lab: Lab, component: str, key: str) -> list[dict[str, bytes]]:
    """Headers of the dead letters of a key."""
    return [dict(raw.headers) for raw in lab.dead(component) if raw.key == key.encode()]


def noted(lab: Lab, component: str, kind: str = "unapplied") -> list[str]:
    """Keys with a problem of a kind."""
    return [found[1] for found in lab.problems(component) if found[0] == kind]


def key_of(facts: list[Fact]) -> str:
    return facts[0].envelope.aggregate_id


@pytest.mark.parametrize("component", FACT_COMPONENTS)
def test_text_that_postgresql_cannot_hold_stops_its_key_alone(lab: Lab, component: str) -> None:
    bad, good = (as_other(HISTORY[component], f"{case}-nul") for case in ("bad", "good"))
    first = lab.fact(component, bad[0], event_id="a\0b")
    lab.append(component, lab.fact(component, good[0]), first, lab.fact(component, good[1]))
    lab.project()
    assert lab.version(component, key_of(good)) == 2
    assert lab.version(component, key_of(bad)) == 0
    [letter] = letters(lab, component, key_of(bad))
    topic = fact_topic("eu.1", component)
    assert letter["dlt-consumer"] == b"projector"
    assert letter["dlt-code"] == b"unstorable"
    assert letter["dlt-topic"] == topic.encode()
    assert b"NUL" in letter["dlt-message"]
    [original] = [r for r in lab.records(topic) if r.offset == int(letter["dlt-offset"])]
    assert original.value == first[1]
    assert key_of(bad) in noted(lab, component)
    lab.project()  # the next one knows it, and asks nothing again
    assert len(letters(lab, component, key_of(bad))) == 1
    lab.append(component, *(lab.fact(component, f) for f in (*bad[1:3], *good[2:3])))
    lab.project()
    assert lab.version(component, key_of(bad)) == 0
    assert lab.version(component, key_of(good)) == min(3, len(good))
    assert len(letters(lab, component, key_of(bad))) == 1


def test_key_that_postgresql_cannot_hold_is_left_out(lab: Lab) -> None:
    good = fact("miners", "beside-the-key", 1, 1)
    lab.append("miners", lab.fact("miners", fact("miners", "k\0", 1, 1)), lab.fact("miners", good))
    lab.project()
    assert lab.version("miners", "beside-the-key") == 1
    assert len(letters(lab, "miners", "k\0")) == 1
    assert "k\N{REPLACEMENT CHARACTER}" in noted(lab, "miners")


def deposits(lab: Lab, key: str, *amounts: int) -> list[tuple[str, bytes]]:
    """A miner's registration and deposits."""
    found: list[tuple[int, Event]] = [(1, fact("miners", key, 1, 1).data)]
    found += [(2 + n, StakeDeposited(amount_micro=amount)) for n, amount in enumerate(amounts)]
    return [
        lab.fact("miners", Fact(fact("miners", key, version, 1).envelope, data))
        for version, data in found
    ]


def test_sum_beyond_64_bits_stops_its_key_alone(lab: Lab) -> None:
    lab.append("miners", *deposits(lab, "rich", MOST, MOST, 1), *deposits(lab, "poor", 1, 1))
    lab.project()
    assert lab.version("miners", "rich") == 2
    assert lab.version("miners", "poor") == 3
    [letter] = letters(lab, "miners", "rich")
    assert letter["dlt-code"] == b"unwritable"
    states = {raw.key: raw.value for raw in lab.published("miners")}
    assert Codec().decode_state(states[b"rich"]).version == 2


def test_state_too_large_for_its_topic_stops_its_key_alone(lab: Lab) -> None:
    """The facts are within bounds, and what they come to is not: known before rows are written."""
    names = tuple(f"{n:04}" + "s" * 96 for n in range(9_790))
    data = MinerRegistered(
        operator_id="o", endpoint="e", specialties=names, gpus=1, gpu_model="g",
        cpu_milli=1, memory_mib=1, max_concurrent=1,
    )  # fmt: skip
    large = [Fact(fact("miners", "large", 1, 1).envelope, data)]
    large += [
        Fact(fact("miners", "large", 2 + n, 1).envelope, StakeDeposited(amount_micro=1))
        for n in range(200)
    ]
    lab.append("miners", *(lab.fact("miners", f) for f in large), *deposits(lab, "beside-large", 1))
    lab.project()
    assert lab.version("miners", "beside-large") == 2
    assert 0 < lab.version("miners", "large") < len(large)
    [letter] = letters(lab, "miners", "large")
    assert letter["dlt-code"] == b"too_large"


def test_bad_fact_that_waited_is_found_and_not_the_one_that_let_it_go_on(lab: Lab) -> None:
    facts = as_other(HISTORY["tasks"], "waited-bad")
    missing = lab.fact("tasks", facts[0])
    lab.append(
        "tasks",
        lab.fact("tasks", facts[1]),
        lab.fact("tasks", facts[2], event_id="\0"),
    )
    lab.project()
    assert noted(lab, "tasks", "version_gap").count(key_of(facts)) == 1
    lab.append("tasks", missing)
    lab.project()
    assert lab.version("tasks", key_of(facts)) == 2
    lab.append("tasks", lab.fact("tasks", facts[3]))
    lab.project()
    assert lab.version("tasks", key_of(facts)) == 2
    [letter] = letters(lab, "tasks", key_of(facts))
    [original] = [
        r for r in lab.records(fact_topic("eu.1", "tasks")) if r.offset == int(letter["dlt-offset"])
    ]
    assert Codec().decode_fact(original.value).envelope.version == 3


def test_several_bad_facts_in_one_batch_are_all_found(lab: Lab) -> None:
    keys = [f"many-{n}" for n in range(60)]
    bad, good = set(keys[3::7]), set(keys) - set(keys[3::7])
    ids = {key: "\0" if key in bad else key for key in keys}
    lab.append(
        "miners",
        *(lab.fact("miners", fact("miners", k, 1, 1), event_id=name) for k, name in ids.items()),
    )
    seen: list[Entry] = []
    worker = lab.worker(outside=Outside(report=seen.append))
    worker.apply(lab.records(fact_topic("eu.1", "miners")), "live")
    assert {key for key in good if lab.version("miners", key) == 1} == good
    assert {key for key in bad if lab.version("miners", key)} == set()
    assert bad <= set(noted(lab, "miners"))
    assert len([e for e in seen if isinstance(e, RecordLeftOut)]) == len(bad)


def test_unlawful_fact_is_kept_as_a_letter_too(lab: Lab) -> None:
    facts = as_other(HISTORY["miners"], "unlawful")
    again = Fact(facts[1].envelope, facts[0].data)  # registered, and registered once more
    lab.append("miners", lab.fact("miners", facts[0]), lab.fact("miners", again))
    lab.project()
    assert key_of(facts) in noted(lab, "miners", "unlawful")
    assert len(letters(lab, "miners", key_of(facts))) == 1


def test_next_generation_asks_again_and_keeps_it_again(lab: Lab) -> None:
    """Another build may apply it: nothing is patched in place, a new generation is built."""
    facts = as_other(HISTORY["rewards"], "next")
    lab.append("rewards", lab.fact("rewards", facts[0], event_id="\0"))
    lab.project()
    before = lab.generation
    lab.make(before + 1)
    try:
        lab.project()
        assert key_of(facts) in noted(lab, "rewards")
        assert len(letters(lab, "rewards", key_of(facts))) == 2
    finally:
        lab.generation = before


# -- what blames no record ------------------------------------------------------------------------


def write(lab: Lab, case: str) -> str:
    facts = as_other(HISTORY["tasks"], case)
    lab.append("tasks", lab.fact("tasks", facts[0]))
    return key_of(facts)


def test_lock_that_is_not_given_in_time_blames_no_record(lab: Lab) -> None:
    key = write(lab, "locked")
    worker = lab.worker()
    worker._db._db.execute("set lock_timeout = '100ms'")
    raws = lab.records(fact_topic("eu.1", "tasks"))
    with psycopg.connect(lab.conninfo) as other:
        other.execute(f"lock table g{lab.generation}.tasks in access exclusive mode")
        with pytest.raises(Unavailable):
            worker.apply(raws, "live")
    assert letters(lab, "tasks", key) == []
    lab.project()
    assert lab.version("tasks", key) == 1


def test_database_that_only_reads_blames_no_record(lab: Lab) -> None:
    """As a server in recovery does; it takes writes once it leads."""
    key = write(lab, "read-only")
    worker = lab.worker()
    worker._db._db.execute("set default_transaction_read_only = on")
    with pytest.raises(Unavailable):
        worker.apply(lab.records(fact_topic("eu.1", "tasks")), "live")
    assert letters(lab, "tasks", key) == []
    lab.project()
    assert lab.version("tasks", key) == 1


def test_database_that_ends_while_the_bad_one_is_sought_blames_no_other(lab: Lab) -> None:
    good, bad = (as_other(HISTORY["tasks"], f"{case}-ends") for case in ("good", "bad"))
    lab.append("tasks", lab.fact("tasks", good[0]), lab.fact("tasks", bad[0], event_id="\0"))
    raws = lab.records(fact_topic("eu.1", "tasks"))
    worker = lab.worker()
    standing = worker._db.standing

    def ended(*asked: object) -> object:
        pid = worker._db.query("select pg_backend_pid()")[0][0]
        with psycopg.connect(lab.conninfo, autocommit=True) as other:
            other.execute("select pg_terminate_backend(%s)", (pid,))
        return standing(*asked)  # type: ignore[arg-type]

    worker._db.standing = ended  # type: ignore[assignment,method-assign]
    with pytest.raises(Unavailable):
        worker.apply(raws, "live")
    assert [*letters(lab, "tasks", key_of(good)), *letters(lab, "tasks", key_of(bad))] == []
    lab.project()
    assert lab.version("tasks", key_of(good)) == 1
    assert len(letters(lab, "tasks", key_of(bad))) == 1


def test_table_that_is_not_as_we_made_it_ends_the_projector_and_blames_no_record(lab: Lab) -> None:
    key = write(lab, "damaged")
    worker = lab.worker()
    raws = lab.records(fact_topic("eu.1", "tasks"))
    table = f"g{lab.generation}.tasks"
    with psycopg.connect(lab.conninfo, autocommit=True) as other:
        other.execute(f"alter table {table} rename column status to state")
        with pytest.raises(IntegrityError):
            worker.apply(raws, "live")
        other.execute(f"alter table {table} rename column state to status")
    assert letters(lab, "tasks", key) == []
    lab.project()
    assert lab.version("tasks", key) == 1
