"""What makes one of the four services different from the others.

A component says what it reads, keeps its indexes over its own folds, and may owe commands to
itself by time. Everything else is the core's, and the runtime's.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from datetime import datetime
from typing import ClassVar, NamedTuple

from everlode.control.fold import ControlState
from everlode.control.scopes import SCOPE_OF
from everlode.events.base import Command, Event, Fact
from everlode.events.states import State
from everlode.log.folds import Folds
from everlode.membership.agent import Load
from everlode.snapshots.read import Alive
from everlode.state.homes import strays
from everlode.state.reactions import command_id, react
from everlode.state.shape import home_of
from everlode.state.view import HomeView, Where
from everlode.topics import Topology
from everlode.topics.names import fact_topic

JUDGES = SCOPE_OF["validations"]


class Validators(Container[tuple[str, str]]):
    """(node, kind) of the validator nodes that a control log knows."""

    def __init__(self, control: ControlState) -> None:
        self._nodes = control.nodes

    def __contains__(self, judge: object) -> bool:
        """True for a node that has joined as a validator of that kind, whatever its status."""
        if not isinstance(judge, tuple):
            return False
        name, kind = judge
        node = self._nodes.get(name)
        return node is not None and (node.component, node.kind) == (JUDGES, kind)


class Owed(NamedTuple):
    """A command of a primary to itself; its id makes it happen once."""

    command_id: str
    aggregate_id: str
    command: Command
    at: datetime
    cause: str | None = None
    rule: str = ""
    """Why it is owed; see `state.expected`."""
    above: int = 0
    """A stamp that its facts are to be above."""


class Notice(NamedTuple):
    """An event for `<origin>.health`; its id makes it one, however often it is published."""

    key: str
    event_id: str
    data: Event


class Component:
    """Base of the four. One node's; used from the runtime's thread only."""

    name: ClassVar[str]
    """Suffix of the topic: tasks, miners, validations or rewards."""
    states: ClassVar[tuple[str, ...]]
    """State components that it decides on."""
    needs_committed: ClassVar[tuple[type[Event], ...]] = ()
    """Facts that are reacted to only once all that came before them is committed."""
    causes: ClassVar[tuple[str, ...]] = ()
    """Components whose facts, of every origin, it reacts to; each is read exactly once."""
    sees: ClassVar[tuple[str, ...]] = ()
    """Components whose home facts it only looks at, all of them, on every node."""
    looks_at: ClassVar[frozenset[str]] = frozenset()
    """The names of these facts, when it looks at a few only."""

    def __init__(self, home: str, topology: Topology) -> None:
        """`home` is the node's own region; it may serve other homes beside it."""
        self.home = home
        self.topology = topology
        self.folds = Folds(self.states, self._changed)
        self.folds.left = lambda state: self.view_of(state.home).left(state)
        self.views: dict[str, HomeView] = {}
        """By home of the aggregates; see `view_of`."""
        self._own = self.view_of(home)
        self.peek: Callable[[str, str], State | None] = self.folds.get
        """A state as staged in the present batch; the views are as committed."""
        self.served: Mapping[str, int] = {home: 0}
        """Home → epoch of the scopes that are served in the present turn."""
        self.validators: Container[tuple[str, str]] = frozenset()
        """Who may judge, as of the present turn: see `Validators`."""
        self.leads: Callable[[str], bool] = lambda _: True
        """Whether its node may act for a home now; asked before what no later check can undo."""

    def cause_topics(self) -> list[str]:
        """Fact topics to react to."""
        return [fact_topic(o, c) for o in self.topology.origins for c in self.causes]

    def seen_topics(self) -> list[str]:
        """Fact topics to look at."""
        return [fact_topic(self.topology.origin(self.home), c) for c in self.sees]

    def view_of(self, home: str) -> HomeView:
        """What may be looked at for a home: all states, and indexes over those at home there."""
        view = self.views.get(home)
        if view is None:
            view = self.views[home] = HomeView(
                self.home, self.folds.states, self.folds.past.of(home)
            )
        return view

    def _changed(self, old: State | None, new: State | None) -> None:
        if new is not None:
            self.view_of(new.home).changed(new)
        self.changed(old, new)

    def changed(self, old: State | None, new: State | None) -> None:
        """An own state changed. Must be cheap."""

    def arrived(self, state: State) -> None:
        """A validation that is not in memory was found in the archive."""
        self.view_of(state.home).arrived(state)

    def restore_seen(self, alive: Alive) -> None:
        """An aggregate of `sees` from a snapshot; facts that are in it may come again."""

    def observe(self, fact: Fact) -> None:
        """A fact of `sees`, in order."""

    def react(self, fact: Fact, where: Where) -> Iterable[Owed]:
        """Commands owed because of a fact of `causes`."""
        event_id = fact.envelope.event_id
        view = self.views.get(home_of(fact.envelope), self._own)
        for reaction in react(self.name, fact, view, where):
            yield Owed(
                command_id(event_id, reaction),
                reaction.aggregate_id,
                reaction.command,
                fact.envelope.occurred_at,
                event_id,
                reaction.rule,
            )

    def strays(self, fact: Fact) -> bool:
        """True for a fact about what is at home elsewhere."""
        return strays(fact.envelope, self.topology.regions)

    def opens(self, epochs: Mapping[str, int]) -> None:
        """Its node begins to lead, home → epoch; another one may have led since it last did."""

    def before(self, aggregate_id: str, command: Command, at: datetime) -> Iterable[Owed]:
        """Commands owed before one from outside is decided."""
        return ()

    def due(self, now: datetime, control: ControlState) -> Iterable[Owed]:
        """Commands owed by time; asked a few times a second, while leading."""
        return ()

    def next_end(self) -> datetime | None:
        """Event time at which somebody's time is over next, or None; asked in each turn."""
        return None

    def over(self, horizon: datetime) -> Iterable[Owed]:
        """Commands owed because somebody's time was over by then (see `primary.horizon`).

        Asked a few times a second, while leading.
        """
        return ()

    def notices(self, now_s: float, control: ControlState) -> Iterable[Notice]:
        """What others must hear of; asked a few times a second, while leading.

        `now_s`: on the monotonic clock.
        """
        return ()

    def load(self) -> Load:
        """For the next beat."""
        return Load(work_done=self.folds.folded)
