#!/usr/bin/env bash
# confluent-kafka 2.16.1: a KafkaError that is compared with None leaves an exception behind, which ends a later call.
#
# Expected: `error == None` and `[error] == [None]` are False, as for any other object; a delivery callback's
# list of outcomes can be compared with `[None]`.
# Seen: the comparison returns, and a TypeError ("'NoneType' object cannot be interpreted as an integer") is
# pending. The interpreter raises it at the comparison or at whatever runs next, where it has nothing to do
# with it. In a thread that publishes this is a silent end, and only once a delivery has failed.
# Way out: `error is None`, item by item.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check confluent-kafka==2.16.1
"$folder/venv/bin/python" - <<'EOF'
from confluent_kafka import KafkaError

outcome = [KafkaError(KafkaError._TIMED_OUT)]
try:
    same = outcome == [None]
    seen = f"returned {same}"
except (TypeError, SystemError) as error:
    seen = type(error).__name__
print(f"[KafkaError] == [None]: {seen}")
assert seen in ("TypeError", "SystemError"), f"the behaviour has changed: {seen}"
EOF
