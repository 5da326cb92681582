"""The S3 server of a stack as a supervised process.

Shell: MinIO or rclone.
"""

from __future__ import annotations

from pathlib import Path

from everlode.stack.native.object_server import ObjectServer
from everlode.stack.native.ports import HOST, answers
from everlode.stack.native.process import Command


def command(
    server: ObjectServer, data: Path, port: int, keys: tuple[str, str], log: Path
) -> Command:
    """`keys`: access key and secret key; they travel in the environment, never in argv."""
    data.mkdir(parents=True, exist_ok=True)
    if server.kind == "minio":
        argv: tuple[str, ...] = (
            *(str(server.binary), "server", str(data), "--quiet"),
            *("--address", f"{HOST}:{port}"),
        )
        env = {
            "MINIO_ROOT_USER": keys[0],
            "MINIO_ROOT_PASSWORD": keys[1],
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "MINIO_CALLHOME_ENABLE": "off",
            "GOMEMLIMIT": "256MiB",
        }
    else:
        argv = (
            *(str(server.binary), "serve", "s3", str(data), "--addr", f"{HOST}:{port}"),
            *("--config", "/dev/null", "--log-level", "NOTICE"),
        )
        env = {"RCLONE_AUTH_KEY": f'"{keys[0]},{keys[1]}"'}  # one CSV field
    return Command("s3", "s3", argv, log, lambda: answers(port), env=env)
