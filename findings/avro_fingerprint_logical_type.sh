#!/usr/bin/env bash
# fastavro 1.13.1 (Python) and hamba/avro 2.31.0 (Go): one schema, two CRC-64-AVRO fingerprints.
#
# Expected: both follow the Avro specification's Parsing Canonical Form, which strips all attributes but
# type, name, fields, symbols, items, values and size; so both give a schema the same fingerprint, and
# the header of single-object encoding (C3 01 and the fingerprint, little-endian) agrees.
# Seen: hamba/avro keeps `logicalType` in the canonical form. A schema without a logical type has one
# fingerprint, with a `timestamp-millis` field it has two: a Go consumer finds no schema for what Python
# wrote. Besides, its `avro.CRC64Avro` is big-endian; `avro.CRC64AvroLE` is the one of the header.
# Way out: publish the fingerprints of both forms beside the schema, and look up by either.
set -euo pipefail
folder="$(mktemp -d)"
trap 'chmod -R u+w "$folder"; rm -rf "$folder"' EXIT
cd "$folder"
cat >plain.json <<'EOF'
{"type": "record", "name": "Beat", "fields": [{"name": "at", "type": "long"}]}
EOF
cat >logical.json <<'EOF'
{"type": "record", "name": "Beat", "fields": [{"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}
EOF
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check fastavro==1.13.1
cat >go.mod <<'EOF'
module finding

go 1.24

require github.com/hamba/avro/v2 v2.31.0
EOF
cat >main.go <<'EOF'
package main

import (
	"fmt"
	"os"

	"github.com/hamba/avro/v2"
)

func main() {
	for _, name := range []string{"plain", "logical"} {
		text, err := os.ReadFile(name + ".json")
		if err != nil {
			panic(err)
		}
		schema := avro.MustParse(string(text))
		little, err := schema.FingerprintUsing(avro.CRC64AvroLE)
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s %x\n", name, little)
	}
}
EOF
export GOPATH="$folder/go" GOCACHE="$folder/cache" GOFLAGS=-mod=mod
go run . >hamba.txt 2>go.log || { cat go.log >&2; exit 1; }
venv/bin/python - <<'EOF'
import json
from pathlib import Path

from fastavro.schema import fingerprint, to_parsing_canonical_form

theirs = dict(line.split() for line in Path("hamba.txt").read_text().splitlines())
ours = {
    name: fingerprint(
        to_parsing_canonical_form(json.loads(Path(f"{name}.json").read_text())), "CRC-64-AVRO"
    )
    for name in ("plain", "logical")
}
print(f"fastavro {ours}\nhamba    {theirs}")
assert ours["plain"] == theirs["plain"], "without a logical type they agree"
assert ours["logical"] != theirs["logical"], "the behaviour has changed"
EOF
