"""What was deleted after it had left the memory is deleted, though the archive has it still."""

from __future__ import annotations

from everlode.events import tasks as t
from everlode.events.base import Event
from everlode.log.facts import LoggedFact
from everlode.log.folds import Folds
from everlode.snapshots.archive import Kept
from tests.support.facts.state_commands import fact_of, submit

TASK = "eu/t1"


def logged(data: Event, version: int) -> LoggedFact:
    fact = fact_of(data, TASK, version, version=version)
    return LoggedFact(fact, 0, version)


def archived() -> Folds:
    """A task that was cancelled and has left."""
    folds = Folds(("tasks",), lambda old, new: None)
    folds.fold(logged(t.TaskSubmitted(**submit().__dict__), 1))
    folds.fold(logged(t.TaskCancelled(reason="r"), 2))
    stands = folds.kept(("tasks", TASK))
    folds.evict(("tasks", TASK))

    def find(component: str, key: str) -> Kept | None:
        return stands if (component, key) == ("tasks", TASK) else None

    folds.find = find
    return folds


def test_what_has_left_is_found_with_its_version() -> None:
    folds = archived()
    state, version = folds.look("tasks", TASK)
    assert state is not None
    assert (state.status, version, folds.version("tasks", TASK)) == ("cancelled", 2, 2)
    assert folds.get("tasks", TASK) == folds.states["tasks"].get(TASK) == state


def test_what_was_deleted_since_is_not_what_the_archive_has() -> None:
    folds = archived()
    folds.fold(logged(t.TaskDeleted(reason="r"), 3))
    assert folds.look("tasks", TASK) == (None, 3)
    assert folds.get("tasks", TASK) is None
    assert folds.states["tasks"].get(TASK) is None
    assert folds.version("tasks", TASK) == 3


def test_what_never_was_is_nothing() -> None:
    assert archived().look("tasks", "eu/t2") == (None, 0)
