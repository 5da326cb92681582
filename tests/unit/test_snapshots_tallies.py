"""With each page of the archive's index go the sums over what it names."""

from __future__ import annotations

from datetime import timedelta

from everlode.avro.codec import Codec
from everlode.events import validations as e
from everlode.events.base import Event
from everlode.log.facts import LoggedFact
from everlode.log.folds import Folds
from everlode.snapshots.index import PAGE
from everlode.snapshots.past import Past
from everlode.snapshots.read import Snapshot
from everlode.snapshots.write import Checkpoint, LogPosition
from tests.support.facts.state_commands import NOW, fact_of, sha256_of
from tests.support.world.archiving_home import ArchiveInMemory


def judged(n: int, miner: str) -> tuple[Event, Event]:
    """Two facts of an automatic validation; every third was bad work."""
    solution, good = f"s{n}", n % 3 > 0
    asked = e.ValidationRequested(
        task_id=solution, task_type="inference", payload_sha256=sha256_of("p"),
        solution_id=solution, solution_sha256=sha256_of(solution), planted_sha256=None,
        miner_id=miner, work_ms=1, base_reward_micro=1, kind="automatic", quorum=1, reviewers=(),
        deadline_at=NOW + timedelta(days=1), solved_stamp=n,
    )  # fmt: skip
    decided = e.ValidationDecided(
        task_id=solution, task_type="inference", solution_id=solution, miner_id=miner,
        kind="automatic", accepted=good, score_ppm=0, votes_for=1, votes_against=0, work_ms=1,
        base_reward_micro=1,
    )  # fmt: skip
    return asked, decided


def test_start_from_pages_and_their_sums_equals_the_running_one() -> None:
    folds, archive = Folds(("validations", "fraud"), lambda *_: None), ArchiveInMemory()
    folds.find = archive.find
    checkpoint = Checkpoint("eu.1", "validations", folds, archive)

    def write(at: int) -> None:
        checkpoint.mark_next()
        taken = checkpoint.take(2**40, LogPosition([at], [at], 0, {}), 3_000, 0.0)
        checkpoint.committed(archive.write(taken))

    facts = [
        fact_of(data, f"v-s{n}", 2 * n + version, version=version)
        for n in range(PAGE // 2 + 300)
        for version, data in enumerate(judged(n, f"m{n % 7}"), 1)
    ]
    for at, fact in enumerate(facts):
        folds.fold(LoggedFact(fact, 0, at))
        if at % 1_000 == 0 or at > PAGE:  # the last ones behind the page
            write(at)
    write(len(facts))
    assert not folds.states["validations"], "all are decided, and have left"
    found = Snapshot(Codec(), {0: archive.snapshot})
    assert len(found.tallies[0]) == 7
    fresh = restarted(archive, found)
    for n in range(7):
        sums = folds.past.sums("eu", f"m{n}")
        assert fresh.sums("eu", f"m{n}") == sums
        assert sum(sums) > 300


def restarted(archive: ArchiveInMemory, found: Snapshot) -> Past:
    """The sums of the snapshot, and what was archived behind its pages."""
    fresh, tail = Past(), found.pages[0][-1].end
    fresh.start(found.tallies)
    assert 0 < tail < len(archive.records)
    for raw in archive.records[tail:]:
        component, _, key = (raw.key or b"").decode().partition("/")
        ended = archive.find(component, key) if component == "validations" else None
        if ended is not None:
            fresh.archived((0, raw.offset), ended.state, None, held=False)
    return fresh
