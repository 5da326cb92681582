"""What every process of a region has: settings, one log, signals, membership. Shell."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NamedTuple

from everlode.errors import EverlodeError
from everlode.membership.agent import Identity, NodeAgent
from everlode.settings.endpoints import Endpoints
from everlode.settings.environment import Settings, settings
from everlode.telemetry.entries import ProcessFailed
from everlode.telemetry.sink import LoggingHandler, Sink, to_stream


class Host(NamedTuple):
    """What a process is given at its start."""

    cfg: Settings
    report: Sink
    """Its log, on stderr; Python's logging and warnings go there too."""


@contextmanager
def hosted(source: str) -> Iterator[Host]:
    """Read the settings and open the log of a process, named `source` there.

    An error that ends the block is reported, then raised. Raises: ConfigError: a setting is wrong.
    """
    report = to_stream(source)  # until the settings say how
    root = logging.getLogger()
    before = root.handlers[:]
    try:
        cfg = settings()
        report = to_stream(source, cfg.log)
        logging.captureWarnings(True)
        root.addHandler(LoggingHandler(report))
        yield Host(cfg, report)
    except EverlodeError as error:
        report(ProcessFailed(error.code, error.message, error.hint))
        raise
    except Exception as error:
        report(ProcessFailed("internal", f"{type(error).__name__}: {error}"))
        raise
    finally:
        root.handlers[:] = before
        logging.captureWarnings(False)


def until_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def asked(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, asked)
    signal.signal(signal.SIGINT, asked)
    return stop


def agent_of(identity: Identity, endpoints: Endpoints, cfg: Settings, **more: object) -> NodeAgent:
    """A NodeAgent with the settings' timings. Raises: ConfigError: no control cluster."""
    return NodeAgent.of(
        identity,
        endpoints,
        clock=cfg.clock(),
        beat_ms=cfg.beat_ms,
        renew_ms=cfg.renew_ms,
        fence_after_ms=cfg.fence_after_ms,
        **more,
    )
