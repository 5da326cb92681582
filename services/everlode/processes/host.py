"""What every process of a region has: settings, one log, signals, membership. Shell."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import NamedTuple

from everlode.errors import EverlodeError
from everlode.membership.agent import Identity, Load, NodeAgent
from everlode.settings.endpoints import Endpoints
from everlode.settings.environment import Settings, settings
from everlode.settings.login import use_login
from everlode.telemetry.entries import ProcessFailed
from everlode.telemetry.figures import REGISTRY, Member, MemberFigures, counted
from everlode.telemetry.scraped import scraped
from everlode.telemetry.sink import LoggingHandler, Sink, to_stream
from everlode.telemetry.tracing import exported

WATCH_S = 0.5


class Host(NamedTuple):
    """What a process is given at its start."""

    cfg: Settings
    report: Sink
    """Its log, on stderr; Python's logging and warnings go there too."""


@contextmanager
def hosted(source: str, *, scrape: bool = True) -> Iterator[Host]:
    """Read the settings and open the log of a process, named `source` there; let it be scraped.

    `scrape`: False for one that answers `/metrics` itself.

    An error that ends the block is reported, then raised. Raises: ConfigError: a setting is wrong.
    """
    report = to_stream(source)  # until the settings say how
    root = logging.getLogger()
    before = root.handlers[:]
    try:
        cfg = settings()
        use_login(cfg.kafka_login)
        report = counted(to_stream(source, cfg.log))
        logging.captureWarnings(True)
        root.addHandler(LoggingHandler(report))
        with ExitStack() as stack:
            if scrape:
                stack.enter_context(scraped(source, cfg.figures(), report))
            if cfg.otlp is not None:
                stack.enter_context(exported(cfg.otlp, source))
            yield Host(cfg, report)
    except Exception as error:
        report(failure(error))
        raise
    finally:
        root.handlers[:] = before
        logging.captureWarnings(False)


def failure(error: Exception) -> ProcessFailed:
    """The entry that says why a process ends."""
    if isinstance(error, EverlodeError):
        return ProcessFailed(error.code, error.message, error.hint)
    return ProcessFailed("internal", f"{type(error).__name__}: {error}")


def until_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()

    def asked(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    signal.signal(signal.SIGTERM, asked)
    signal.signal(signal.SIGINT, asked)
    return stop


def end_when_failed(agent: NodeAgent) -> None:
    """End this process, as by SIGTERM, once its node has fenced itself for good.

    For a process whose own loop does not look at `agent.failed`; raise that at its end.
    """

    def watch() -> None:
        while agent.failed is None:
            time.sleep(WATCH_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="agent-failed", daemon=True).start()


def agent_of(
    identity: Identity,
    endpoints: Endpoints,
    cfg: Settings,
    *,
    scopes: tuple[str, ...] = (),
    load: Callable[[], Load] = Load,
) -> NodeAgent:
    """A NodeAgent with the settings' timings; what it is and does is among the process's figures.

    Raises: ConfigError: no control cluster.
    """
    agent = NodeAgent.of(
        identity,
        endpoints,
        clock=cfg.clock(),
        beat_ms=cfg.beat_ms,
        renew_ms=cfg.renew_ms,
        fence_after_ms=cfg.fence_after_ms,
        scopes=scopes,
        load=load,
    )
    REGISTRY.register(MemberFigures(lambda: _member(agent, scopes, load)))
    return agent


def _member(agent: NodeAgent, scopes: Iterable[str], load: Callable[[], Load]) -> Member | None:
    if agent.control.position < 0:  # it has not been started
        return None
    me, now = agent.identity, load()
    leads = {scope: agent.leads(scope) is not None for scope in scopes}
    return Member(
        me.node_id, me.region, me.component, leads,
        now.work_done, now.queue_size, now.stands_still,
    )  # fmt: skip
