"""The pure parts of the stack: lock file, settings of Kafka and MirrorMaker, layout."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from everlode.errors import ConfigError, NotFound
from everlode.stack import Endpoints, RegionEndpoints
from everlode.stack.native.jars import KAFKA_VERSION, lock_digest, read_lock
from everlode.stack.native.kafka import mirror_settings, new_id, node_settings, properties
from everlode.stack.native.layout import Layout
from everlode.stack.secret import write_secret
from everlode.topics import Topology, catalogue, mirrored_topics

SHA = "a" * 64


def test_lock_committed_names_each_jar_once_with_its_hash() -> None:
    jars = read_lock()
    assert len({jar.name for jar in jars}) == len(jars) == 94
    assert all(jar.size > 0 for jar in jars)


def test_lock_committed_has_the_jar_without_which_brokers_log_nothing() -> None:
    assert "log4j-slf4j-impl-2.25.4.jar" in {jar.name for jar in read_lock()}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("org/apache/x/1/x-1.jar abc 5", "line 1"),
        (f"org/apache/x/1/x-1.jar {SHA} many", "line 1"),
        (f"org/apache/kafka/kafka-clients/3.9.1/kafka-clients-3.9.1.jar {SHA} 5", "kafka-clients"),
        (f"jakarta/ws/rs/jakarta.ws.rs-api/3.0.0/jakarta.ws.rs-api-3.0.0.jar {SHA} 5", "3.1.0"),
    ],
)
def test_lock_with_a_set_that_would_not_run_is_refused(line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_lock(line)


def test_lock_digest_changes_with_one_hash() -> None:
    jars = read_lock()
    other = (jars[0]._replace(sha256=SHA), *jars[1:])
    assert lock_digest(jars) != lock_digest(other)


def test_node_of_a_region_listens_on_this_machine_only(tmp_path: Path) -> None:
    settings = node_settings(1, 9092, {1: 9093}, tmp_path)
    listeners = str(settings["listeners"]) + "," + str(settings["advertised.listeners"])
    assert all("://127.0.0.1:" in listener for listener in listeners.split(","))
    assert settings["auto.create.topics.enable"] == "false"


def test_node_of_three_needs_a_majority_and_elects_quickly(tmp_path: Path) -> None:
    settings = node_settings(2, 9092, {1: 1, 2: 2, 3: 3}, tmp_path, replication=3)
    assert settings["min.insync.replicas"] == 2
    assert settings["controller.quorum.voters"] == "1@127.0.0.1:1,2@127.0.0.1:2,3@127.0.0.1:3"
    assert settings["broker.session.timeout.ms"] == 2000


def test_mirror_reads_only_listed_topics_of_listed_sources() -> None:
    topology = Topology()
    settings = mirror_settings(
        "us",
        {"eu": "a:1", "us": "b:1", "ap": "c:1"},
        {"eu": mirrored_topics(topology, "eu")},
        8083,
    )
    assert settings["eu->us.enabled"] == "true"
    assert settings["ap->us.enabled"] == "false"
    assert not any(key.startswith(("us->", "eu->ap", "ap->eu")) for key in settings)
    topics = str(settings["eu->us.topics"]).split(",")
    assert len(topics) == len(mirrored_topics(topology, "eu"))
    assert not any(sign in topic for topic in topics for sign in "*+[(|")


def test_mirror_matches_its_own_topics_exactly() -> None:
    """MirrorMaker reads an allow-list as patterns: an unescaped dot would match eu.1xtasks."""
    settings = mirror_settings("us", {"eu": "a:1", "us": "b:1"}, {"eu": ["eu.1.tasks"]}, 8083)
    assert "eu->us.topics=eu\\\\.1\\\\.tasks\n" in properties(settings)


def test_mirror_is_exactly_once_and_keeps_names() -> None:
    settings = mirror_settings("us", {"eu": "a:1", "us": "b:1"}, {"eu": ["x"]}, 8083)
    assert settings["us.exactly.once.source.support"] == "enabled"
    assert settings["eu.consumer.isolation.level"] == "read_committed"
    assert str(settings["replication.policy.class"]).endswith("IdentityReplicationPolicy")


def test_mirrored_topics_are_those_the_catalogue_marks() -> None:
    topology = Topology()
    for region in topology.regions:
        marked = {s.name for s in catalogue(topology) if s.mirrored and s.cluster == region}
        assert marked == set(mirrored_topics(topology, region))


def test_layout_with_too_few_control_nodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="control_replication 3"):
        Layout(Topology(), tmp_path, mirrors=True, control_nodes=1, s3=True)


def test_layout_of_three_regions_has_thirteen_processes(tmp_path: Path) -> None:
    layout = Layout(Topology(), tmp_path, mirrors=True, control_nodes=3, s3=True)
    assert len(layout.names) == 13
    assert len(layout.port_names) == 13 + 6


def test_node_ids_do_not_look_like_options() -> None:
    assert not any(new_id().startswith("-") for _ in range(300))


def test_secret_is_readable_by_its_owner_only_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    first = write_secret(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert write_secret(path) == first


def test_endpoints_come_back_as_saved_without_any_secret(tmp_path: Path) -> None:
    password = tmp_path / "password"
    write_secret(password)
    region = RegionEndpoints(
        kafka_bootstrap="127.0.0.1:1",
        postgres_dsn="postgresql://everlode@127.0.0.1:2/everlode",
        postgres_password_file=password,
        origin="eu.1",
    )
    endpoints = Endpoints(
        topology=Topology(regions=("eu",), partitions=3), regions={"eu": region},
        control_bootstrap=None, s3=None,
    )  # fmt: skip
    path = endpoints.save(tmp_path)
    assert Endpoints.load(tmp_path) == endpoints
    assert password.read_text() not in path.read_text()
    assert password.read_text() in region.postgres_conninfo()


def test_endpoints_with_other_regions_than_their_topology_are_refused(tmp_path: Path) -> None:
    region = {"kafka_bootstrap": "k:1", "postgres_dsn": "p", "postgres_password_file": "f"}
    for origin, regions in (("eu.2", ["eu"]), ("eu.1", ["eu", "us"])):
        (tmp_path / "endpoints.json").write_text(json.dumps({
            "topology": {"regions": regions}, "regions": {"eu": region | {"origin": origin}},
            "control_bootstrap": None, "s3": None,
        }))  # fmt: skip
        with pytest.raises(ConfigError, match="by the topology"):
            Endpoints.load(tmp_path)


def test_endpoints_of_no_stack_are_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no stack"):
        Endpoints.load(tmp_path)


def test_endpoints_damaged_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "endpoints.json").write_text(json.dumps({"regions": 5}))
    with pytest.raises(ConfigError, match=r"endpoints\.json"):
        Endpoints.load(tmp_path)


def test_kafka_version_is_the_one_in_the_lock() -> None:
    assert any(jar.name == f"kafka-clients-{KAFKA_VERSION}.jar" for jar in read_lock())
