"""What a child does between fork and exec: die with us, and be somebody else where it must.

PostgreSQL refuses to run as root. It then runs as a system user that already exists, keeping one
capability, so that binaries and data below a closed home directory can be reached; no permission of
any folder is widened. Invariants: only system calls happen between fork and exec. Shell: prctl,
capset.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
from collections.abc import Callable
from typing import NamedTuple

from everlode.errors import Unavailable

_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_SET_CHILD_SUBREAPER = 36
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1
_CAP_DAC_READ_SEARCH = 2
_libc = ctypes.CDLL(None, use_errno=True)


class Identity(NamedTuple):
    """A user to run as."""

    name: str
    uid: int
    gid: int
    capability: int | None
    """Kept across the change, so that closed folders can be passed through."""


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def become_subreaper() -> None:
    """Adopt orphaned grandchildren, so that they can be waited for. Idempotent."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def unprivileged() -> Identity | None:
    """Whom to run PostgreSQL as: None (ourselves) unless we are root.

    Raises: Unavailable: we are root and there is no other user.
    """
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Identity(name, entry.pw_uid, entry.pw_gid, _passing_capability())
    raise Unavailable(
        "PostgreSQL does not run as root, and there is neither a user postgres nor nobody",
        hint="create one of them, or run as another user",
    )


def _passing_capability() -> int | None:
    effective = 0
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("CapEff:"):
                effective = int(line.split()[1], 16)
    for capability in (_CAP_DAC_READ_SEARCH, _CAP_DAC_OVERRIDE):
        if effective >> capability & 1:
            return capability
    return None


def child_setup(
    parent: int, orphan_signal: signal.Signals | None, identity: Identity | None
) -> Callable[[], None]:
    """The function to run in the child before exec. `parent` is our pid.

    Without an `orphan_signal` the child outlives us.
    """
    header = _CapHeader(_CAPABILITY_VERSION_3, 0)
    data = (_CapData * 2)()
    capability = identity.capability if identity else None
    if capability is not None:
        bit = 1 << capability
        data[0] = _CapData(bit, bit, bit)
    header_ref, data_ref = ctypes.byref(header), ctypes.byref(data)

    def setup() -> None:
        if identity is not None:
            _libc.prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)
            os.setgroups([])
            os.setgid(identity.gid)
            os.setuid(identity.uid)
            if capability is not None:
                _libc.capset(header_ref, data_ref)
                _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, capability, 0, 0)
        if orphan_signal is None:
            return
        # after the change of user, which would clear it
        _libc.prctl(_PR_SET_PDEATHSIG, int(orphan_signal), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(125)

    return setup
