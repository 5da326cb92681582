"""Copies what runs into a root file system: interpreter, standard library, packages, C libraries.

    python3 collect.py ROOTFS OWNED

Run by the interpreter of the virtual environment that is to run. OWNED gets the folders that the
image's user owns. No shell, no package manager and no tools come along.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

USER, VOLUMES = 10001, 32
SPARED = shutil.ignore_patterns(
    "test", "tests", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "pydoc_data",
    "config-*", "dist-packages", "site-packages", "*.a",
)  # fmt: skip
"""Of the standard library: what no service imports."""
FILES = (
    "/etc/ssl/certs/ca-certificates.crt", "/etc/nsswitch.conf", "/etc/protocols",
    "/etc/ld.so.cache",  # where libraries are that no default path leads to
)  # fmt: skip
LOADED_BY_NAME = ("libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1")
"""Libraries that no binary is linked with and that are opened all the same."""


def put(path: Path, root: Path) -> None:
    """A file at its own place below `root`; a link and what it leads to."""
    target = root / path.relative_to("/")
    if target.exists() or target.is_symlink():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        put(Path(os.path.normpath(path.parent / os.readlink(path))), root)
    shutil.copy2(path, target, follow_symlinks=False)


def libraries(binaries: Iterable[Path]) -> set[Path]:
    """All shared libraries of the system that these are linked with."""
    found: set[Path] = set()
    for binary in binaries:
        said = subprocess.run(["ldd", binary], capture_output=True, text=True, check=False).stdout
        found |= {Path(one) for one in re.findall(r"(/\S+\.so\S*) \(", said)}
    return found


def main(root: Path, owned: Path) -> None:
    """Fill both folders."""
    venv, library = Path(sys.prefix), Path(sysconfig.get_path("stdlib"))
    for name in ("lib", "lib64"):
        if Path("/", name).is_symlink():  # to usr/lib: a file must not come twice
            leads = os.readlink(f"/{name}")
            (root / leads.lstrip("/")).mkdir(parents=True)
            (root / name).symlink_to(leads)
    shutil.copytree(venv, root / venv.relative_to("/"), symlinks=True)
    shutil.copytree(library, root / library.relative_to("/"), ignore=SPARED, symlinks=True)
    python = Path(os.path.realpath(sys.executable))
    put(python, root)
    link = Path(sys.executable)
    while link.is_symlink():  # each station between the venv's name and the file
        link = Path(os.path.normpath(link.parent / os.readlink(link)))
        put(link, root)
    binaries = [python, *venv.rglob("*.so*"), *(library / "lib-dynload").glob("*.so")]
    beside = libraries([python]) | libraries(binaries)
    homes = {path.parent for path in beside}
    named = [home / name for home in homes for name in LOADED_BY_NAME if (home / name).exists()]
    for path in (*beside, *named):
        if not path.is_relative_to(venv):
            put(path, root)
    for name in FILES:
        if Path(name).exists():
            target = root / name.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, target)
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc/passwd").write_text(f"everlode:x:{USER}:{USER}::/tmp:/none\n")
    (root / "etc/group").write_text(f"everlode:x:{USER}:\n")
    for folder in ("everlode", "payouts", *(f"volumes/{n}" for n in range(1, VOLUMES + 1))):
        (owned / folder).mkdir(parents=True)
    (owned / "tmp").mkdir()
    (owned / "tmp").chmod(0o1777)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
