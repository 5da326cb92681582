"""Builds and runs the programs of tests/languages, each with the tools of its language.

Downloads go where those tools keep them; what is built goes to `~/.cache/everlode/languages`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from everlode.stack.native.jars import provide_jars, read_lock

SOURCES = Path(__file__).parents[2] / "languages"
CACHE = Path.home() / ".cache" / "everlode"
BUILDS = CACHE / "languages"
SOURCE = re.compile(r"^source = .*\n", re.M)


def tool(name: str) -> str:
    """Path of a tool; fails with the way to get it."""
    found = shutil.which(name)
    assert found, f"{name} is not installed: see tests/languages/README.md"
    return found


def done(command: list[str | Path], folder: Path, **more: str) -> str:
    """Run a command, and give what it printed."""
    ran = subprocess.run(
        command, cwd=folder, env={**os.environ, **more}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"{command}: {ran.stdout[-3000:]}{ran.stderr[-3000:]}"
    return ran.stdout


def copied(language: str, *names: str) -> Path:
    """A folder for building, with these of the language's files."""
    place = BUILDS / language
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCES / language / name, place / name)
    return place


def java(folder: Path) -> str:
    """Compiled and run at once, with the jars of the lock."""
    jars = provide_jars(CACHE, read_lock((SOURCES / "java/jars.lock").read_text()))
    path = os.pathsep.join(map(str, jars))
    return done([tool("java"), "-cp", path, SOURCES / "java/Main.java", folder], SOURCES / "java")


def go(folder: Path) -> str:
    """Built by go, of the versions in go.sum."""
    program = BUILDS / "go" / "languages"
    done([tool("go"), "build", "-mod=readonly", "-o", program, "."], SOURCES / "go")
    return done([program, folder], folder)


def rust(folder: Path) -> str:
    """Built by cargo, of the versions and checksums in crates.lock."""
    place = copied("rust", "Cargo.toml", "crates.lock", "src/main.rs")
    lock, wanted = place / "Cargo.lock", (place / "crates.lock").read_text()
    if not lock.exists() or SOURCE.sub("", lock.read_text()) != wanted:
        # our lock names no registry: which one it is, or which mirror, is cargo's own setting
        lock.unlink(missing_ok=True)
        done([tool("cargo"), "generate-lockfile", "--quiet"], place)
        (source, *_) = SOURCE.findall(lock.read_text())
        lock.write_text(wanted.replace("checksum = ", f"{source}checksum = "))
    done([tool("cargo"), "build", "--quiet", "--locked"], place)
    return done([place / "target/debug/languages", folder], folder)


def npm(name: str, *programs: str) -> Path:
    """A folder with these programs and the packages of its package-lock.json, no script of theirs.

    What is there by the same lock is used again.
    """
    place = copied(name, "package.json", "package-lock.json", *programs)
    lock, have = (place / "package-lock.json").read_bytes(), place / "node_modules" / ".locked"
    if not have.exists() or have.read_bytes() != lock:
        done([tool("npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"], place)
        have.write_bytes(lock)
    return place


def node(folder: Path, name: str = "node") -> str:
    """With the packages of its package-lock.json."""
    place = npm(name, "main.js")
    return done([tool("node"), place / "main.js", folder], place)


RUNS: dict[str, Callable[[Path], str]] = {"java": java, "go": go, "rust": rust, "node": node}
"""Language → what builds and runs its program on a folder."""


def run(language: str, folder: Path) -> dict[str, Any]:
    """What the program of a language makes of a folder."""
    made: dict[str, Any] = json.loads(RUNS[language](folder))
    return made
