"""A call that may never return, made in a thread of its own, so that its caller can give it up.

librdkafka does not look at the time that `send_offsets_to_transaction` is given (its issue 5456).
It also keeps the broker that coordinates a group after that one has left the cluster's metadata,
and then nothing wakes the request that waits for it (its issue 5511). Seen with three brokers: one
was killed, and a primary stood in this call until another broker came or went. Shell: one thread.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue

Asked = tuple[Callable[[], object], "Future[None]"]


class Aside:
    """Makes calls one after the other. Its thread ends with it, once its last call has returned.

    For one thread at a time; after a TimeoutError it is of no more use.
    """

    def __init__(self) -> None:
        self._asked: SimpleQueue[Asked | None] = SimpleQueue()
        weakref.finalize(self, self._asked.put, None)
        # a daemon: the end of a process does not wait for a call that never returns
        threading.Thread(target=_run, args=(self._asked,), name="aside", daemon=True).start()

    def call(self, what: Callable[[], object], within_s: float) -> None:
        """Make it, and wait for it. Raises: TimeoutError: it goes on. Whatever it raises."""
        done: Future[None] = Future()
        self._asked.put((what, done))
        done.result(within_s)


def _run(asked: SimpleQueue[Asked | None]) -> None:
    while (one := asked.get()) is not None:
        what, done = one
        try:
            what()
        except BaseException as error:  # noqa: BLE001 - it is the caller's
            done.set_exception(error)
        else:
            done.set_result(None)
        del one, what, done  # nothing that was asked for is kept alive by who waits for the next
