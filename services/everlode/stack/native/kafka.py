"""Settings of a Kafka node and of MirrorMaker 2: small, quick, exactly-once.

Pure, but for ids that are drawn.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

from everlode.stack.native.ports import HOST

BROKER_CLASS = "kafka.Kafka"
FORMAT_CLASS = "kafka.tools.StorageTool"
MIRROR_CLASS = "org.apache.kafka.connect.mirror.MirrorMaker"
MIRROR_CONNECTOR = "MirrorSourceConnector"

HEAP = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""Measured: a broker keeps 170 to 240 MB resident with it, a mirror about twice that."""


TRANSACTION_MS = 60_000
"""The longest that a transaction may stay open without a word; Kafka's own bound is 15 minutes."""


def new_id() -> str:
    """A random id in Kafka's form: 16 bytes, URL-safe base64, not starting with a dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def properties(settings: Mapping[str, object]) -> str:
    """A Java properties file, sorted by key."""
    return "".join(f"{key}={value}\n" for key, value in sorted(settings.items()))


def node_settings(
    node_id: int,
    port: int,
    controllers: Mapping[int, int],
    data: Path,
    replication: int = 1,
) -> dict[str, object]:
    """A combined controller and broker. `controllers`: node id → controller port of all."""
    voters = ",".join(f"{n}@{HOST}:{p}" for n, p in sorted(controllers.items()))
    in_sync = replication // 2 + 1
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": node_id,
        "controller.quorum.voters": voters,
        "listeners": f"PLAINTEXT://{HOST}:{port},CONTROLLER://{HOST}:{controllers[node_id]}",
        "advertised.listeners": f"PLAINTEXT://{HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": data,
        "auto.create.topics.enable": "false",
        "unclean.leader.election.enable": "false",
        "default.replication.factor": replication,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replication,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": replication,
        "transaction.state.log.min.isr": in_sync,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": replication,
        "share.coordinator.state.topic.min.isr": in_sync,
        "share.coordinator.state.topic.num.partitions": 1,
        # a killed broker is let in again only when the session of its last life has ended
        "broker.session.timeout.ms": 4000,
        "broker.heartbeat.interval.ms": 500,
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        # a killed writer's open transaction must not hold read-committed readers for long
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
        # nor may a stranger ask for more: a mirror asks for 60 s, all of ours for less
        "transaction.max.timeout.ms": TRANSACTION_MS,
        "log.cleaner.dedupe.buffer.size": 8 * 2**20,
        "log.cleaner.threads": 1,
        "log.index.size.max.bytes": 2 * 2**20,
        "num.network.threads": 2,
        "num.io.threads": 4,
        "num.recovery.threads.per.data.dir": 2,
    }
    if replication > 1:
        settings |= _QUICK_ELECTION
    return settings


_QUICK_ELECTION: dict[str, object] = {
    # measured: 3 to 5 s without writes when the leader is killed, against 9 to 14 s at defaults
    "broker.session.timeout.ms": 2000,
    "broker.heartbeat.interval.ms": 300,
    "controller.quorum.fetch.timeout.ms": 1000,
    "controller.quorum.election.timeout.ms": 500,
    "controller.quorum.election.backoff.max.ms": 500,
    "num.replica.fetchers": 1,
    # the last nodes of a stack that stops find no controller to ask
    "controlled.shutdown.enable": "false",
}


def mirror_settings(
    target: str,
    clusters: Mapping[str, str],
    topics: Mapping[str, Sequence[str]],
    rest_port: int,
) -> dict[str, object]:
    """MirrorMaker 2 next to `target`, exactly-once, names kept, only the topics that are listed.

    `clusters`: name → bootstrap, the target included. `topics`: source → its own topics; a source
    that is not in it is not read. There is no loop guard but this list: never give a pattern.
    """
    settings: dict[str, object] = {
        "clusters": ",".join(clusters),
        "replication.policy.class": "org.apache.kafka.connect.mirror.IdentityReplicationPolicy",
        "dedicated.mode.enable.internal.rest": "true",
        "listeners": f"http://{HOST}:{rest_port}",
        "replication.factor": 1,
        "offset.storage.replication.factor": 1,
        "offset.storage.partitions": 1,
        "config.storage.replication.factor": 1,
        "status.storage.replication.factor": 1,
        "status.storage.partitions": 1,
        # nobody reads offset syncs (they are lossy); MirrorMaker logs once that its checkpoint
        # connector cannot run without them
        "emit.offset-syncs.enabled": "false",
        "emit.heartbeats.enabled": "false",
        "emit.checkpoints.enabled": "false",
        "sync.group.offsets.enabled": "false",
        "sync.topic.acls.enabled": "false",
        "sync.topic.configs.enabled": "false",
        "refresh.groups.enabled": "false",
        "refresh.topics.interval.seconds": 10,
        "heartbeats.topic.replication.factor": 1,
        "tasks.max": 1,
        "plugin.discovery": "service_load",
        f"{target}.plugin.discovery": "service_load",
        # a killed mirror's work goes to the next one at once, not after five minutes
        f"{target}.scheduled.rebalance.max.delay.ms": 0,
        f"{target}.session.timeout.ms": 4000,
        f"{target}.heartbeat.interval.ms": 1000,
        f"{target}.exactly.once.source.support": "enabled",
        f"{target}.producer.linger.ms": 5,
        f"{target}.producer.batch.size": 512 * 1024,
        f"{target}.producer.compression.type": "zstd",
    }
    for name, bootstrap in clusters.items():
        settings[f"{name}.bootstrap.servers"] = bootstrap
        if name == target:
            continue
        listed = topics.get(name, ())
        settings |= {
            f"{name}->{target}.enabled": "true" if listed else "false",
            f"{name}->{target}.topics": ",".join(t.replace(".", r"\\.") for t in listed),
            f"{name}.consumer.isolation.level": "read_committed",
            f"{name}.consumer.auto.offset.reset": "earliest",
            f"{name}.consumer.max.poll.records": 10_000,
            f"{name}.consumer.fetch.max.bytes": 16 * 2**20,
            f"{name}.consumer.max.partition.fetch.bytes": 4 * 2**20,
            # each batch becomes a transaction at the target: few of them while little happens
            f"{name}.consumer.fetch.min.bytes": 32 * 2**10,
            f"{name}.consumer.fetch.max.wait.ms": 250,
        }
    return settings
