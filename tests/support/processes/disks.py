"""Disks without room, for tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_MOUNT = ("mount", "-t", "tmpfs", "-o")
_APART = ("unshare", "--user", "--map-current-user", "--keep-caps", "--mount")


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own with hardly any room."""
    if os.geteuid() == 0:
        folder.mkdir()
        subprocess.run([*_MOUNT, f"size={size}", "tmpfs", folder], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", folder], check=True)
    else:
        with _of_another_namespace(folder, size):
            yield folder


@contextmanager
def _of_another_namespace(folder: Path, size: str) -> Iterator[None]:
    """Mounted where a plain user may, and reached through a process that lives there."""
    there = folder.with_name(f"{folder.name}-there")
    there.mkdir()
    script = f'{" ".join(_MOUNT)} size={size} tmpfs "$0" && echo mounted && cat'
    with subprocess.Popen(
        [*_APART, "sh", "-c", script, there],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stderr is not None
        try:
            if not process.stdout.readline():
                pytest.skip(f"neither root nor user namespaces: {process.stderr.read().strip()}")
            folder.symlink_to(f"/proc/{process.pid}/root{there}")
            yield
        finally:
            process.stdin.close()
