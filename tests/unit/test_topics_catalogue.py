"""Topics: names, partitions of keys, and the one catalogue."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from everlode.adapters.kafka_admin import _expected
from everlode.events.catalogue import FACT_COMPONENTS, SIGNALS, STATE_COMPONENTS
from everlode.miners.component import MinerComponent
from everlode.rewards.component import RewardComponent
from everlode.tasks.component import TaskComponent
from everlode.topics import Topology, catalogue, mirrored_topics, state_topics
from everlode.topics.names import (
    LONGEST_REGION,
    MOST_REGIONS,
    archive_topic,
    command_topic,
    dead_letter_topic,
    fact_topic,
    region_of,
    reply_topic,
    snapshot_topic,
    split_fact_topic,
    state_topic,
)
from everlode.topics.partition import murmur2, partition_of
from everlode.validations.component import ValidationComponent

TOPOLOGY = Topology(partitions=4)


@pytest.mark.parametrize(
    ("key", "signed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_agrees_with_kafkas_own_test_vectors(key: bytes, signed: int) -> None:
    """From org.apache.kafka.common.utils.UtilsTest.testMurmur2."""
    assert murmur2(key) == signed % 2**32


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 1024))
def test_partition_is_in_range_and_kafkas(key: str, partitions: int) -> None:
    from aiokafka.partitioner import murmur2 as other

    assert 0 <= partition_of(key, partitions) < partitions
    assert partition_of(key, partitions) == (other(key.encode()) & 0x7FFFFFFF) % partitions


def test_keys_spread_over_partitions() -> None:
    counts = Counter(partition_of(f"task-{n}", 4) for n in range(4000))
    assert min(counts.values()) > 850


def test_names_can_be_taken_apart() -> None:
    assert fact_topic("eu.1", "tasks") == "eu.1.tasks"
    assert split_fact_topic("eu.1.tasks") == ("eu.1", "tasks")
    assert region_of("eu.1") == "eu"
    assert region_of("eu.west.12") == "eu.west"
    assert command_topic("eu", "tasks") == "eu.commands.tasks"
    assert reply_topic("eu") == "eu.replies"
    assert state_topic(3, "fraud") == "state.g3.fraud"
    assert dead_letter_topic("projector", "eu.1.tasks") == "dlt.projector.eu.1.tasks"


def test_catalogue_names_each_topic_once_a_cluster() -> None:
    specs = catalogue(TOPOLOGY)
    names = [(spec.cluster, spec.name) for spec in specs]
    assert len(names) == len(set(names))
    assert names == sorted(names)
    assert {spec.cluster for spec in specs} == {"eu", "us", "ap", "control"}
    per_region = 3 * 9 + 3 * 10 + 7 + 2 * 4 + 1 + 5 + 2 * 4 + 1
    assert len(specs) == 3 * per_region + 2


def test_every_region_has_every_origins_topics_with_the_same_partitions() -> None:
    specs = catalogue(TOPOLOGY)
    for origin in TOPOLOGY.origins:
        for component in (*FACT_COMPONENTS, *SIGNALS):
            found = [s for s in specs if s.name == fact_topic(origin, component)]
            assert len(found) == 3
            assert len({(s.partitions, s.replication, s.min_insync, s.cleanup) for s in found}) == 1
            assert [s.cluster for s in found if s.mirrored] == [region_of(origin)]


def test_only_own_facts_and_signals_are_mirrored() -> None:
    specs = catalogue(TOPOLOGY)
    for region in TOPOLOGY.regions:
        allowed = set(mirrored_topics(TOPOLOGY, region))
        marked = {s.name for s in specs if s.cluster == region and s.mirrored}
        assert allowed == marked
        assert all(name.startswith(f"{region}.1.") for name in allowed)
        assert not any("commands" in name or "replies" in name for name in allowed)


def test_facts_commands_heartbeats_and_states_of_a_key_share_partition_counts() -> None:
    counts = {
        spec.partitions
        for spec in catalogue(TOPOLOGY)
        if spec.name.split(".")[-1] in {*FACT_COMPONENTS, "heartbeats", "fraud"}
        and not spec.name.startswith("dlt.")
    }
    assert counts == {4}


def test_whatever_a_primary_reads_to_act_on_has_dead_letters_of_its_own() -> None:
    """A letter that has no topic would be waited for without end."""
    there = {(spec.cluster, spec.name) for spec in catalogue(TOPOLOGY)}
    for home in TOPOLOGY.regions:
        for component in (MinerComponent, RewardComponent, TaskComponent, ValidationComponent):
            read = [fact_topic(origin, c) for origin in TOPOLOGY.origins for c in component.causes]
            for topic in (command_topic(home, component.name), *read):
                assert (home, dead_letter_topic("primary", topic)) in there


def test_settings_agree_with_their_columns() -> None:
    for spec in catalogue(TOPOLOGY):
        assert spec.configs["cleanup.policy"] == spec.cleanup
        assert spec.configs["retention.ms"] == str(spec.retention_ms)
        assert spec.configs["min.insync.replicas"] == str(spec.min_insync)
        assert spec.configs["unclean.leader.election.enable"] == "false"
        assert spec.min_insync <= spec.replication
        kinds = ("state.g", "snapshot.", "archive.", "work.", "control")
        compacted = spec.name.startswith(kinds)
        assert (spec.cleanup == "compact") == compacted


def test_control_topic_keeps_everything_in_one_partition() -> None:
    found = [s for s in catalogue(TOPOLOGY) if s.cluster == "control"]
    assert [(s.name, s.cleanup) for s in found] == [
        ("control", "compact"), ("control.snapshot", "compact"),
    ]  # fmt: skip
    for control in found:
        assert (control.partitions, control.retention_ms) == (1, -1)
        assert (control.replication, control.min_insync) == (3, 2)


def test_control_topic_of_an_older_build_is_compared_with_that_builds_settings() -> None:
    (control,) = (s for s in catalogue(TOPOLOGY) if s.name == "control")
    older = _expected(control, {"cleanup.policy": "delete"})
    assert (older["cleanup.policy"], older["retention.ms"]) == ("delete", "-1")
    assert "min.compaction.lag.ms" not in older
    assert _expected(control, {"cleanup.policy": "compact"}) == control.configs


def test_states_are_compacted_after_the_lag_and_belong_to_a_generation() -> None:
    topics = state_topics(TOPOLOGY, "eu", 7)
    assert [t.name for t in topics] == [f"state.g7.{c}" for c in STATE_COMPONENTS]
    for topic in topics:
        assert topic.configs["min.compaction.lag.ms"] == "1800000"
        assert not topic.mirrored
    names = {s.name for s in catalogue(TOPOLOGY, 7) if s.name.startswith("state.")}
    assert names == {t.name for t in topics}


def test_snapshots_and_archives_are_kept_for_ever_at_home_alone() -> None:
    kept = [s for s in catalogue(TOPOLOGY) if s.name.startswith(("snapshot.", "archive."))]
    assert {(s.cluster, s.name) for s in kept} == {
        (region, name(f"{region}.1", component))
        for region in TOPOLOGY.regions
        for component in FACT_COMPONENTS
        for name in (snapshot_topic, archive_topic)
    }
    for spec in kept:
        assert (spec.retention_ms, spec.partitions, spec.mirrored) == (-1, 4, False)


def test_work_of_miners_is_kept_at_home_and_its_tombstones_for_a_day() -> None:
    kept = [s for s in catalogue(TOPOLOGY) if s.name.startswith("work.")]
    assert {(s.cluster, s.name) for s in kept} == {(r, f"work.{r}.1") for r in TOPOLOGY.regions}
    for spec in kept:
        assert (spec.retention_ms, spec.partitions, spec.mirrored) == (-1, 4, False)
        assert spec.configs["delete.retention.ms"] == "86400000"


def test_schemas_are_kept_for_ever() -> None:
    kept = {s.name for s in catalogue(TOPOLOGY) if s.name.endswith(".schemas")}
    assert kept == {"eu.1.schemas", "us.1.schemas", "ap.1.schemas"}
    for spec in catalogue(TOPOLOGY):
        if spec.name in kept:
            assert (spec.retention_ms, spec.partitions) == (-1, 1)


def test_incarnation_changes_the_names_of_one_region() -> None:
    back = Topology(incarnations={"eu": 2})
    assert back.origins == ("eu.2", "us.1", "ap.1")
    assert set(mirrored_topics(back, "eu")) & set(mirrored_topics(TOPOLOGY, "eu")) == set()
    assert mirrored_topics(back, "us") == mirrored_topics(TOPOLOGY, "us")


@pytest.mark.parametrize(
    "fields",
    [
        {"regions": ()},
        {"regions": ("eu", "eu")},
        {"regions": ("eu",), "incarnations": {"us": 2}},
        {"incarnations": {"eu": 0}},
        {"partitions": 0},
        {"partitions": 2.0},
        {"partitions": True},
        {"min_insync": 2},
        {"control_min_insync": 4},
        {"retention_ms": 1},
        {"nonsense": 1},
    ],
    ids=str,
)
def test_wrong_topology_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Topology(**fields)


@pytest.mark.parametrize(
    "name",
    [
        "", " ", "a.b", "a_b", "eu/x", "../eu", "EU", "é", "1eu", "-eu", "eu-", "eu--x", "eu\n",
        "x" * 33, "control", "state", "dlt", "s3", "logs", "secrets", "keys",
    ],
)  # fmt: skip
def test_region_that_topics_or_folders_could_not_bear_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValidationError, match=r"region '.*(taken|not a name).*e\.g\. eu"):
        Topology(regions=("eu", name))


def test_regions_up_to_the_most_that_can_copy_one_another_are_a_topology() -> None:
    names = tuple(f"r{n}" for n in range(MOST_REGIONS))
    assert len(Topology(regions=(*names[1:], "eu-west-1")).origins) == MOST_REGIONS
    assert max(len(s.name) for s in catalogue(Topology(regions=("x" * LONGEST_REGION,)))) < 249
    with pytest.raises(ValidationError, match="there are 40, at most 16"):
        Topology(regions=tuple(f"r{n}" for n in range(40)))
