"""Secrets of a stack: made once, each in a file that its owner alone may read. Shell: files."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_secret(path: Path, length: int = 24) -> str:
    """The secret in `path`, made at the first time; mode 0600."""
    if path.exists():
        return path.read_text().strip()
    secret = secrets.token_urlsafe(length)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(secret)
    return secret


def write_private(path: Path, content: bytes) -> None:
    """A file that its owner alone may read, whole or not at all."""
    draft = path.with_suffix(path.suffix + ".draft")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    draft.replace(path)
