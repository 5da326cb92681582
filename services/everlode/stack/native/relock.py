"""`python -m everlode.stack.native.relock > kafka-jars.lock`: resolve Kafka's jars anew with jgo.

For maintainers, after a change of `KAFKA_VERSION`; nothing else calls it. Shell: Maven Central.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
from pathlib import Path

import jgo
from jgo.maven import PythonResolver

from everlode.stack.native.jars import KAFKA_VERSION

LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"
KAFKA = "+".join(
    f"org.apache.kafka:{name}:{KAFKA_VERSION}"
    for name in ("kafka_2.13", "connect-mirror", "kafka-tools")
)


def resolved(endpoint: str, folder: Path) -> set[str]:
    """File names of the jars of an endpoint; they are in the local Maven repository then."""
    environment = jgo.build(endpoint, resolver=PythonResolver(), cache_dir=folder)
    return {path.name for path in Path(environment.path).rglob("*.jar")}


def main() -> int:
    """Print the lock. 1 when a jar is not in the local repository."""
    own = "{1}-{2}.jar".format(*LOGGING.split(":"))
    with tempfile.TemporaryDirectory() as scratch:
        wanted = resolved(KAFKA, Path(scratch) / "kafka")
        # resolved together, the logging would drag other versions of Kafka's libraries in
        wanted |= resolved(LOGGING, Path(scratch) / "logging") & {own}
    repository = Path.home() / ".m2" / "repository"
    lines = [
        f"# Jars of Kafka {KAFKA_VERSION}, MirrorMaker 2 and their logging, as jgo resolves them.",
        f"# {KAFKA} in one resolution;",
        f"# {LOGGING} by itself, its own jar only.",
        "# repository path  SHA-256  bytes",
    ]
    for path in sorted(repository.rglob("*.jar")):
        if path.name in wanted:
            wanted.discard(path.name)
            body = path.read_bytes()
            digest = hashlib.sha256(body).hexdigest()
            lines.append(f"{path.relative_to(repository)} {digest} {len(body)}")
    if wanted:
        sys.stderr.write(f"not in {repository}: {sorted(wanted)}\n")
        return 1
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
