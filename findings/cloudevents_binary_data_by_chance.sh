#!/usr/bin/env bash
# cloudevents 2.2.0 (Python SDK): a binary Kafka message with Avro data gives bytes or str, by its content.
#
# Expected: `get_data()` of an event whose `content-type` is application/avro is the message's value, as
# bytes, whatever is in it. The JSON format is the only one that the SDK has, and it is what its own
# `from_binary_event` takes.
# Seen: where the bytes happen to be valid UTF-8 they come back as str, else as bytes. So one schema gives
# both types: {"n": 5} is str, {"n": 64} is bytes, and a consumer that passes every test fails later.
# Way out: take the record's value from the Kafka client, and only the attributes from the SDK.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check cloudevents==2.2.0 fastavro==1.13.1
"$folder/venv/bin/python" - <<'EOF'
import io

import fastavro
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary_event

SCHEMA = fastavro.parse_schema(
    {"type": "record", "name": "Beat", "fields": [{"name": "n", "type": "long"}]}
)
HEADERS = {
    "ce_specversion": b"1.0", "ce_id": b"1", "ce_source": b"urn:example", "ce_type": b"beat",
    "content-type": b"application/avro",
}
seen = {}
for number in (5, 64):
    body = io.BytesIO()
    fastavro.schemaless_writer(body, SCHEMA, {"n": number})
    event = from_binary_event(KafkaMessage(headers=HEADERS, key=None, value=body.getvalue()))
    seen[number] = type(event.get_data()).__name__
    print(f"n={number}: {body.getvalue()!r} -> {event.get_data()!r} ({seen[number]})")
assert seen == {5: "str", 64: "bytes"}, f"the behaviour has changed: {seen}"
EOF
