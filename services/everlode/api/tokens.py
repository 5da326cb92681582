"""Who may ask for what: bearer tokens out of a file that holds their hashes.

A line of the file is `NAME ROLE SHA256`, the hash that of the token in hex; empty lines and those
that begin with # are passed over. A token is long and random (`openssl rand -hex 32`), so that its
plain hash cannot be searched. Invariants: no secret is kept, logged or named in an error; a role
may do what the ones before it may. Shell: reads the file, once.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from everlode.errors import ConfigError

_LINE = re.compile(r"(?P<name>[\w.@-]{1,64})\s+(?P<role>\w+)\s+(?P<sha256>[0-9a-f]{64})")
MADE = "a line is NAME ROLE SHA256: printf %s TOKEN | sha256sum makes the hash"


class Role(StrEnum):
    """Rising: who looks, who sends what clients and miners send, who may send any command."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def may(self, needed: Role) -> bool:
        """Whether it is `needed` or above it."""
        ranks = list(Role)
        return ranks.index(self) >= ranks.index(needed)


class Member(NamedTuple):
    """Who asks."""

    name: str
    role: Role


NOBODY = Member("insecure", Role.ADMIN)
"""Who asks where no token is wanted: on the loopback, with --insecure."""
Tokens = Mapping[str, Member]
"""SHA-256 of a token, in hex → whose it is."""


def member_of(tokens: Tokens, token: str) -> Member | None:
    """Whose token it is. Pure."""
    return tokens.get(hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest())


def parsed(text: str, source: str) -> dict[str, Member]:
    """The tokens of a file's text. Pure. Raises: ConfigError: names the line."""
    found: dict[str, Member] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = _LINE.fullmatch(line.strip())
        if parts is None or parts["role"] not in list(Role):
            roles = ", ".join(Role)
            raise ConfigError(
                f"{source}, line {number}: no token's line; roles: {roles}", hint=MADE
            )
        found[parts["sha256"]] = Member(parts["name"], Role(parts["role"]))
    if not found:
        raise ConfigError(f"{source}: there is no token in it", hint=MADE)
    return found


def load(path: Path) -> Tokens:
    """The tokens in a file, which nobody but its owner may read or write.

    Raises: ConfigError: it cannot be read, others may read it, or a line is wrong.
    """
    try:
        mode, text = stat.S_IMODE(path.stat().st_mode), path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no text"
        raise ConfigError(f"{path}: {why}", hint=MADE) from None
    if mode & 0o077:
        raise ConfigError(
            f"{path}: mode {mode:o}; others may read or write it", hint=f"chmod 600 {path}"
        )
    return parsed(text, str(path))
