"""Free ports on 127.0.0.1, kept from one `up` to the next.

Invariants: a port of ours is below the kernel's range for outgoing connections, so that none of
those takes it while the stack is down. Shell: binds sockets for a moment.
"""

from __future__ import annotations

import random
import socket

from everlode.errors import ConfigError, Unavailable

HOST = "127.0.0.1"
_LOW, _HIGH = 15_000, 32_000
_TRIES = 500


def is_free(port: int) -> bool:
    """True when nothing listens on the port (connections in TIME_WAIT do not count)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def answers(port: int) -> bool:
    """True when something accepts connections on the port."""
    try:
        with socket.create_connection((HOST, port), timeout=0.2):
            return True
    except OSError:
        return False


def choose_ports(
    names: tuple[str, ...], kept: dict[str, int], fixed: dict[str, int]
) -> dict[str, int]:
    """A port for every name: the fixed one, else the kept one if it is free, else a new one.

    Raises: ConfigError: a fixed port is in use, given twice or for an unknown name.
    Unavailable: no port is free.
    """
    unknown = sorted(set(fixed) - set(names))
    if unknown:
        raise ConfigError(f"port for {unknown[0]}: no such part", hint=f"parts: {', '.join(names)}")
    chosen: dict[str, int] = {}
    for name, port in fixed.items():
        if port in chosen.values():
            raise ConfigError(f"port {port} is given twice")
        if not is_free(port):
            raise ConfigError(
                f"port {port} for {name} is in use",
                code="port_in_use",
                hint="stop what listens there (ss -ltnp), or leave the port to us",
            )
        chosen[name] = port
    for name in names:
        if name not in chosen:
            port = kept.get(name, 0)
            taken = port in chosen.values()
            chosen[name] = port if port and not taken and is_free(port) else _new(chosen)
    return chosen


def _new(chosen: dict[str, int]) -> int:
    for _ in range(_TRIES):
        port = random.randrange(_LOW, _HIGH)  # noqa: S311
        if port not in chosen.values() and is_free(port):
            return port
    raise Unavailable(f"no free port between {_LOW} and {_HIGH}")
