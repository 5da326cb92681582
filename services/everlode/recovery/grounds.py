"""What a recovery stands on beside its backup, asked of everybody while it is at other work.

Schemas, where the tail begins, what the control log has decided; then, how far the logs reached. A
broker of a busy region is slow to answer, and most of a recovery would be waiting for one answer
after the other. Nothing here changes anything but the journal. Shell.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

from everlode.avro.codec import Codec
from everlode.backup.manifest import Manifest
from everlode.log.learn import taught
from everlode.projector.epochs import DecidedEpochs, decided_epochs
from everlode.recovery.evidence import Evidence, ask
from everlode.recovery.journal import RecoveryJournal
from everlode.recovery.request import Target
from everlode.recovery.staged import Staged
from everlode.recovery.tail import Tail, beginnings
from everlode.telemetry.sink import Sink, silent

QUESTIONS = 4
"""Kinds of them: none waits for another to be answered, but for the schemas."""


class Grounds:
    """Of one recovery, from one manifest; `close` it. What is asked for is waited for."""

    def __init__(
        self, target: Target, manifest: Manifest, journal: RecoveryJournal, report: Sink = silent
    ) -> None:
        """Begin to ask for all but how far the logs reached."""
        self.target, self.manifest, self.journal, self.report = target, manifest, journal, report
        self.staged = Staged(target.staging, manifest)
        self._threads = ThreadPoolExecutor(QUESTIONS, "grounds")
        self._opened = ExitStack()
        self._codec = self._threads.submit(taught, target.bootstrap, target.topology.origins)
        self._tail = self._threads.submit(self._begins)
        self._epochs = self._threads.submit(self._follow)
        self._known: Future[Evidence] | None = None

    def close(self) -> None:
        """Wait for what is being asked, and leave."""
        self._threads.shutdown(cancel_futures=True)
        self._opened.close()

    def ask(self) -> Future[Evidence]:
        """Begin to ask how far the logs reached (must: once the manifest is noted). Idempotent."""
        if self._known is None:
            self._known = self._threads.submit(self._ask)
        return self._known

    @property
    def codec(self) -> Codec:
        """It knows what has been published. Raises: Unavailable."""
        return self._codec.result()

    @property
    def tail(self) -> Tail:
        """Where the facts after the cut begin. Raises: Unavailable."""
        return self._tail.result()

    @property
    def epochs(self) -> DecidedEpochs:
        """What the control log has decided; it is followed until `close`. Raises: Unavailable."""
        return self._epochs.result()

    @property
    def known(self) -> Evidence:
        """How far the logs reached, by what others know of them. Raises: Unavailable."""
        return self.ask().result()

    def _begins(self) -> Tail:
        """Of all components, looked for once."""
        ats = {(at.topic, at.partition): at for at in self.manifest.positions}
        return beginnings(self.target.bootstrap, self.codec, ats)

    def _follow(self) -> DecidedEpochs:
        return self._opened.enter_context(decided_epochs(self.target.control_bootstrap))

    def _ask(self) -> Evidence:
        return ask(self.target, self.manifest, self.codec, self.journal)
