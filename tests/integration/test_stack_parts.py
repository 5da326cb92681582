"""Provisioning against a registry that misbehaves: nothing half-done, every error names it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from everlode.cli.main import run
from everlode.errors import ConfigError, IntegrityError, Unavailable
from everlode.stack.native.jars import Jar, lock_digest, provide_jars, read_lock
from everlode.stack.native.lock import holder
from everlode.stack.native.object_server import Default, choose
from everlode.stack.native.parts import provision

pytestmark = pytest.mark.timeout(60)

SIZES = {jar.path: jar.size for jar in read_lock()}
GOOD = b"jar" * 1000
BODIES = {"good": GOOD, "other": b"jar" * 999 + b"JAR"}


class Registry(ThreadingHTTPServer):
    """A Maven repository of four paths: good, other (same length), short (breaks off), gone."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.real = ""
        """What is answered for Kafka's own jars: short or other."""
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, Registry)
        name = self.path.rpartition("/")[2].removesuffix(".jar")
        self.server.asked.append(name)
        if self.server.real:
            size = SIZES[self.path.removeprefix("/")]
            self.send_response(200)
            self.send_header("Content-Length", str(size))
            self.end_headers()
            self.wfile.write(bytes(size - 1 if self.server.real == "short" else size))
            return
        if name == "gone":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(GOOD)))
        self.end_headers()
        self.wfile.write(GOOD[:1500] if name == "short" else BODIES[name.rstrip("0123456789")])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    with Registry() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setenv("EVERLODE_MAVEN", server.url)
        yield server
        server.shutdown()
        thread.join()


def jar(name: str) -> Jar:
    return Jar(f"x/{name}.jar", hashlib.sha256(GOOD).hexdigest(), len(GOOD))


def left_over(cache: Path) -> list[Path]:
    return [p for p in cache.rglob("*") if p.name != "provision.lock" and p != cache / "jars"]


def test_jars_are_downloaded_once(registry: Registry, tmp_path: Path) -> None:
    jars = (jar("good1"), jar("good2"))
    first = provide_jars(tmp_path, jars, maven=registry.url)
    again = provide_jars(tmp_path, jars, maven=registry.url)
    assert first == again
    assert [path.read_bytes() for path in first] == [GOOD, GOOD]
    assert sorted(registry.asked) == ["good1", "good2"]


def test_jar_with_another_hash_is_refused_and_nothing_is_kept(
    registry: Registry, tmp_path: Path
) -> None:
    with pytest.raises(IntegrityError, match=r"other\.jar: SHA-256") as caught:
        provide_jars(tmp_path, (jar("good"), jar("other")), maven=registry.url)
    assert caught.value.hint
    assert left_over(tmp_path) == []


def test_download_that_breaks_off_is_refused_and_nothing_is_kept(
    registry: Registry, tmp_path: Path
) -> None:
    with pytest.raises(Unavailable, match=r"short\.jar broke off") as caught:
        provide_jars(tmp_path, (jar("good"), jar("short")), maven=registry.url)
    assert caught.value.code == "download"
    assert registry.asked.count("short") == 3
    assert left_over(tmp_path) == []


@pytest.mark.parametrize("command", ["up", "fetch"])
@pytest.mark.parametrize(
    ("answered", "code", "exit_code"), [("short", "download", 1), ("other", "hash_differs", 13)]
)
def test_command_whose_download_fails_gives_its_error_and_leaves_nothing(
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    answered: str,
    code: str,
    exit_code: int,
) -> None:
    registry.real = answered
    cache = tmp_path / "cache"
    monkeypatch.setenv("EVERLODE_CACHE", str(cache))
    place = ("--dir", str(tmp_path / "stack"), "--regions", "eu", "--s3", "none")
    assert run(["stack", command, *(place if command == "up" else ()), "--json"]) == exit_code
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == code
    assert registry.server_address[0] in error["message"]
    assert ".jar" in error["message"]
    assert error["hint"]
    assert left_over(cache) == []
    assert holder(tmp_path / "stack") is None


def test_jar_that_is_gone_is_named(registry: Registry, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"gone\.jar"):
        provide_jars(tmp_path, (jar("gone"),), maven=registry.url)
    assert left_over(tmp_path) == []


def test_jar_damaged_in_the_cache_is_refused_by_name(registry: Registry, tmp_path: Path) -> None:
    (path,) = provide_jars(tmp_path, (jar("good"),), maven=registry.url)
    path.write_bytes(GOOD[:-1] + b"!")
    with pytest.raises(IntegrityError, match=r"good\.jar: SHA-256") as caught:
        provide_jars(tmp_path, (jar("good"),), maven=registry.url)
    assert str(path.parent) in caught.value.hint


def test_what_a_killed_process_left_is_removed(registry: Registry, tmp_path: Path) -> None:
    jars = (jar("good"),)
    half = tmp_path / "jars" / f".{lock_digest(jars)}.abcd"
    half.mkdir(parents=True)
    (half / "good.jar").write_bytes(GOOD[:10])
    provide_jars(tmp_path, jars, maven=registry.url)
    assert not half.exists()


def test_two_processes_at_once_download_once(registry: Registry, tmp_path: Path) -> None:
    jars = tuple(jar(f"good{n}") for n in range(5))
    threads = [
        threading.Thread(target=provide_jars, args=(tmp_path, jars), kwargs={"maven": registry.url})
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(registry.asked) == [f"good{n}" for n in range(5)]


def test_cache_that_cannot_be_made_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EVERLODE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ConfigError) as caught:
        provision()
    assert "EVERLODE_CACHE" in caught.value.hint


def test_s3_choice_of_rclone_says_why(tmp_path: Path) -> None:
    server = choose(tmp_path, None, default=Default("rclone"))
    assert server.kind == "rclone"
    assert "EVERLODE_S3=rclone" in server.reason


def stand_in(folder: Path, name: str, script: str) -> None:
    """A program of that name, and nothing else, on the PATH that `folder` will be."""
    folder.mkdir(exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def test_s3_takes_a_minio_that_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path / "bin", "minio", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    server = choose(tmp_path / "cache", "auto")
    assert (server.kind, server.binary) == ("minio", tmp_path / "bin" / "minio")
    assert server.reason == "found on PATH"


def test_s3_falls_back_to_rclone_and_says_why_unless_minio_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path / "bin", "go", "echo no such module >&2; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    cache = tmp_path / "cache"
    cache.mkdir()
    server = choose(cache, "auto")
    assert server.kind == "rclone"
    assert server.reason.startswith("no MinIO: ")
    assert "no such module" in server.reason
    with pytest.raises(Unavailable, match="MinIO cannot be built"):
        choose(cache, "auto", default=Default(require_minio=True))
    assert not list(cache.glob("minio/*"))


def test_s3_required_minio_forbids_rclone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERLODE_REQUIRE_MINIO", "1")
    monkeypatch.setenv("EVERLODE_S3", "rclone")
    with pytest.raises(ConfigError, match="EVERLODE_REQUIRE_MINIO"):
        provision()
    required = Default(require_minio=True)
    assert choose(tmp_path, "rclone", default=required).kind == "rclone"


def test_s3_unknown_choice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="floppy"):
        choose(tmp_path, "floppy")
    monkeypatch.setenv("EVERLODE_S3", "floppy")
    with pytest.raises(ConfigError, match="EVERLODE_S3=floppy"):
        provision()
