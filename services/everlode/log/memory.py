"""A writer's memory of its own facts: begun from the snapshot, kept within what is alive.

Of a primary, and of an `EventProducer`:

      start      snapshot ──► folds      marks ──► the log goes on from them      pages ──► archive
      secondary  facts ──► folds         marks: what is written; archive: what may be forgotten
      promotion  both to their ends; what no entry holds yet is written by this node from now on
      primary    dirty folds ──► entries beside its facts; ended ones ──► archive, and forgotten

Invariant: a fold from a snapshot equals, key by key, one from the log's beginning. Shell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized

from everlode.adapters.kafka import Raw, Reader, Record
from everlode.avro.codec import Codec
from everlode.avro.snapshots import decode_snapshot
from everlode.events.snapshots import (
    ANSWERS,
    ENTRY,
    MARK,
    SnapshotAnswers,
    SnapshotEntry,
    SnapshotMark,
)
from everlode.events.states import State
from everlode.log.facts import FactLog, lacking
from everlode.log.folds import Folds
from everlode.log.work import WorkIndex
from everlode.settings.endpoints import RegionParts
from everlode.snapshots.archive import Archive
from everlode.snapshots.dirty import Key
from everlode.snapshots.read import Alive, Snapshot, read_snapshot
from everlode.snapshots.work import Change
from everlode.snapshots.write import AGE_S, FEW, MANY, Checkpoint, LogPosition
from everlode.state.dispatch import FOLD_VERSION
from everlode.topics.names import snapshot_topic, split_fact_topic


class Memory:
    """Of one fact topic's writer, or of who may become it. Not thread-safe."""

    def __init__(self, folds: Folds, log: FactLog, parts: RegionParts) -> None:
        """`log` hands what it reads to `folds`."""
        self._folds, self._log, self._parts = folds, log, parts
        _, self._name = split_fact_topic(log.topic)
        self._archive = Archive(
            parts.bootstrap, parts.origin, self._name, parts.partitions, folds.at_hand.ended
        )
        self._checkpoint = Checkpoint(parts.origin, self._name, folds, self._archive)
        self.work = WorkIndex(folds, parts, kept=self._name == "tasks")
        self._topic = snapshot_topic(parts.origin, self._name)
        group = f"memory-{self._name}-{parts.origin}"
        self._reader = Reader(
            parts.bootstrap, group, wait_ms=2_000, min_bytes=65_536, prompt=log.prompt
        )
        self._follows, self._took = False, 0
        self._next: dict[tuple[str, int], int] = {}
        self._codec = Codec()
        self._leaving: dict[Key, int] = {}
        """Archived by another in a version that is not folded here yet."""
        self.arrived: Callable[[State], None] = lambda _: None
        """Notified of an archived state that is not in memory; only of validations."""
        folds.past.firsts = self._archive.firsts

    # -- start and secondary -----------------------------------------------------------------

    def start(self, *, anew: bool = False) -> None:
        """Take the snapshot over, and let the log go on behind it. Raises: Unavailable.

        `anew`: what it says does not count, and all is folded from the log's beginning. Raises
        IntegrityError then, when that is gone. `catch_up` follows before any fact is folded: what
        was archived last is known by it.
        """
        if anew and not self._log.is_whole():
            raise lacking(self._log.topic, 1, None)
        parts = self._parts
        found = read_snapshot(parts.bootstrap, parts.origin, self._name, parts.partitions)
        keys, ends = found.keys(), found.ends
        anew = anew or (self._is_of_another_fold(found) and self._log.is_whole())
        self._folds.past.start(found.tallies, anew=anew)
        if anew:
            self._checkpoint.start_anew(self._log.ends())
            archived = self._log.prompt.ends(self._archive.positions)
            self._archive.start_anew([archived[at] for at in self._archive.positions])
            found = Snapshot(self._codec, {})  # all is folded anew, and written anew
        else:
            self._archive.start(found.pages)
            found.pages.clear()
        self._folds.find = self._archive.find
        alive = found.entries()
        self._overlap(alive)
        self._folds.restore(alive, found.answers())
        self._folds.answered = self._checkpoint.answered
        self._checkpoint.start(keys)
        self._checkpoint.marked(found.marks)
        self._log.resume(found.marks)
        self._next = {(self._topic, p): ends.get(p, 0) for p in range(parts.partitions)}

    @staticmethod
    def _is_of_another_fold(found: Snapshot) -> bool:
        """True when its states are not what the facts give today; used only for want of them."""
        return any(mark.fold_version != FOLD_VERSION for mark in found.marks.values())

    def _overlap(self, alive: Iterable[Alive]) -> None:
        """Validations that were archived once, and are alive again."""
        for component, _, state in alive:
            if component == "validations":
                once = self._archive.find(component, state.key)
                if once is not None and once.state is not None:
                    self._folds.past.returned(once.state)

    def follow(self) -> None:
        """Note what the primary has written; never waits."""
        if not self._follows:
            self._reader.assign(self._positions())
            self._follows = True
        self._note(self._reader.batch(5000, 0.0))

    def catch_up(self, timeout_s: float = 60) -> None:
        """As `follow`, to the ends, and read no more until `follow`: a primary knows its own.

        Raises: Unavailable.
        """
        self._follows = False
        for batch in self._reader.to_ends(self._positions(), timeout_s, 5000):
            self._note(batch)
        self._leave([])
        for key, partition in self._folds.ended():
            self._checkpoint.wait(key, partition)

    def _positions(self) -> dict[tuple[str, int], int]:
        return self._next | self._archive.positions

    def _note(self, batch: Sequence[Raw]) -> None:
        marks: dict[int, SnapshotMark] = {}
        archived: list[SnapshotEntry] = []
        for raw in batch:
            at = raw.topic, raw.partition
            if raw.topic == self._archive.topic:
                archived += self._archived(raw)
                continue
            if raw.offset < self._next[at]:
                continue
            self._next[at] = raw.offset + 1
            key = raw.key or b""
            if key.startswith(ENTRY):
                self._checkpoint.noted(key, raw.value is not None)
            elif key.startswith(ANSWERS) and raw.value is not None:
                self._contents(raw.value)
            elif key.startswith(MARK):
                mark = decode_snapshot(self._codec, raw.value)
                if isinstance(mark, SnapshotMark):
                    marks[raw.partition] = mark
        if marks:
            self._checkpoint.marked(marks)
        self._leave(archived)

    def _contents(self, value: bytes) -> None:
        """What commands asked for: their facts, which are folded here, do not say it."""
        answers = decode_snapshot(self._codec, value)
        if isinstance(answers, SnapshotAnswers):
            for fact in answers.facts:
                self._folds.contents.note((fact.aggregate_id, fact.command_id), fact.content)

    def _archived(self, raw: Raw) -> Iterator[SnapshotEntry]:
        """A record of the archive, once."""
        if raw.key is None or self._archive.knows(raw):
            return
        entry = decode_snapshot(self._codec, raw.value)
        validation = isinstance(entry, SnapshotEntry) and entry.component == "validations"
        if not isinstance(entry, SnapshotEntry) or not validation:
            self._archive.added(raw.partition, raw.key, raw.offset)
        else:
            before = self._archive.find(entry.component, entry.key)
            self._archive.added(raw.partition, raw.key, raw.offset)
            new = None if entry.state is None else self._codec.decode_state(entry.state)
            held = self._folds.holds((entry.component, entry.key))
            place = raw.partition, raw.offset
            self._folds.past.archived(place, new, before and before.state, held=held)
            if new is not None and not held:
                self.arrived(new)
        if isinstance(entry, SnapshotEntry):
            yield entry

    def _leave(self, archived: Sequence[SnapshotEntry]) -> None:
        """Forget what was archived, once it is folded up to that."""
        for entry in archived:
            self._leaving[entry.component, entry.key] = entry.version
        for key, version in list(self._leaving.items()):
            if not self._folds.holds(key):
                del self._leaving[key]
            elif self._folds.kept(key).version >= version:
                del self._leaving[key]
                if self._folds.kept(key).version == version:
                    self._folds.evict(key)

    # -- primary -----------------------------------------------------------------------------

    @property
    def reads(self) -> dict[tuple[str, int], int]:
        """How far inputs were read, by the snapshot: where the group's own offsets have expired."""
        return self._checkpoint.reads

    @property
    def behind(self) -> bool:
        """True when so much waits that it is not left to transactions with facts."""
        return self._checkpoint.behind(time.monotonic())

    def beside(self, facts: Sized, changes: Iterable[Change]) -> list[Record]:
        """Records for the next transaction; without facts only what has piled up.

        Beside facts as many as these, so that a snapshot keeps up with what `changes` by them.
        """
        self._took, most = 0, max(FEW, len(facts)) if facts else MANY
        taken = self._take(most, AGE_S) if facts or self.behind else []
        return [*taken, *self.work.take(changes)]

    def rest(self, *, marks: bool = False) -> list[Record]:
        """Records of the next transaction of a primary that leaves; empty once all is written.

        With `marks` not empty then: marks stand for what changed no aggregate, too.
        """
        if not len(self._folds.dirty) and not marks:
            return []
        self._checkpoint.mark_next()
        return self._take(MANY, 0.0)

    def _take(self, most: int, age_s: float) -> list[Record]:
        log = self._log
        at = LogPosition(log.next_offsets, log.seqs, log.clock.last, log.epochs)
        taken = self._checkpoint.take(time.monotonic(), at, most, age_s)
        self._took = len(taken)
        return taken

    def committed(self, offsets: Sequence[int], read: dict[tuple[str, int], int]) -> None:
        """They are committed, and what was `read` with them; before the facts are folded."""
        if self._took:
            self._checkpoint.committed(offsets[: self._took])
        self.work.committed()
        self._checkpoint.reads.update(read)

    def close(self) -> None:
        """Leave."""
        self._reader.close()
        self._archive.close()
        self.work.close()
