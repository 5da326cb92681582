"""What a primary may look at when it reacts: its own folds, and small indexes over them.

`View` is all that a reaction reads; `HomeView` is the implementation over a primary's live folds.
A primary feeds it `changed(state)` after each of its own fold steps (again after a
restart, for every state), and the validation primary all of its region's `.miners` facts from
the beginning of the topic, by `miner_fact`. Both are idempotent: sets and maps, no counters.
Invariants: a view already includes the fact that is reacted to, and may be ahead of it. Pure but
for its own memory.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple, Protocol, cast

from everlode.errors import Unavailable
from everlode.events import miners as m
from everlode.events.base import Fact
from everlode.events.snapshots import HandedIn
from everlode.events.states import (
    FraudState,
    MinerState,
    RewardState,
    State,
    TaskState,
    ValidationState,
)
from everlode.state.auditing import JUDGED_BY_EXPERT, audit_due
from everlode.state.ended import ended
from everlode.state.equal import Equal
from everlode.state.fraudrules import (
    INNOCENT,
    Record,
    firsts,
    weight,
)
from everlode.state.rewardfolds import held_by
from everlode.state.testimony import (
    HONEYPOTS,
    NOTHING,
    REVIEWS,
    WORK,
    Tallies,
    Testimony,
    record,
    testimony,
)


class Where(NamedTuple):
    """Where the fact that is reacted to stands in this region's cluster."""

    topic: str
    partition: int
    offset: int


class Past(Protocol):
    """What is known of the validations of a home that have left the memory."""

    def sums(self, miner_id: str) -> tuple[int, ...]:
        """What they say of a miner, by column of `testimony`."""

    def firsts(self, solution_sha256: str) -> Sequence[HandedIn]:
        """Who handed a solution in first: see `fraudrules.firsts`."""


class NoPast:
    """Nothing has left."""

    def sums(self, _: str) -> tuple[int, ...]:
        """See Past."""
        return NOTHING

    def firsts(self, _: str) -> Sequence[HandedIn]:
        """See Past."""
        return ()


def _note(index: dict[str, set[str]], name: str, state: RewardState) -> None:
    """File a reward under `name` until it ends."""
    if not ended(state):
        index[name].add(state.key)
    elif name in index:
        index[name].discard(state.key)
        if not index[name]:
            del index[name]


class View(Protocol):
    """What `react` reads. Lookups return None, or nothing, for what is not at home here."""

    @property
    def home(self) -> str:
        """The region of this primary."""

    def task(self, task_id: str) -> TaskState | None:
        """A task (task primary only)."""

    def miner(self, miner_id: str) -> MinerState | None:
        """A miner (miner primary only)."""

    def validation(self, validation_id: str) -> ValidationState | None:
        """A validation (validation primary only)."""

    def case(self, case_id: str) -> FraudState | None:
        """A fraud case (validation primary only)."""

    def reviewers(self) -> Sequence[str]:
        """The region's active miners, sorted (validation primary only)."""

    def of_same_operator(self, miner_id: str) -> Set[str]:
        """The miner, and those active ones of the region that its operator runs too."""

    def firsts(self, solution_sha256: str) -> Sequence[HandedIn]:
        """Who handed this large solution in first: all that a copy can be a copy of."""

    def after(self, one: HandedIn) -> Sequence[HandedIn]:
        """The same large solution, handed in after this one, first handed in first."""

    def honeypots(self, miner_id: str) -> Record:
        """Decided answers of a miner to honeypots."""

    def work(self, miner_id: str) -> Record:
        """Solutions of a miner that were proved good or bad."""

    def reviews(self, miner_id: str) -> Record:
        """Votes of a miner, as a reviewer, on solutions that an expert found bad."""

    def watched(self, miner_id: str) -> bool:
        """True while the miner, by its work or its reviews, was wrong too often."""

    def open_cases(self, validation_id: str) -> Sequence[str]:
        """Suspected cases around a validation, sorted."""

    def rewards_of_task(self, task_id: str) -> Sequence[RewardState]:
        """Rewards of a task that have not ended (reward primary only), by key."""

    def rewards_of_case(self, case_id: str) -> Sequence[RewardState]:
        """Those that are or were withheld for a case, and have not ended, by key."""

    def reward(self, reward_id: str) -> RewardState | None:
        """A reward, ended ones too (reward primary only)."""


class HomeView:
    """`View` over the folds of one primary; not thread-safe.

    `folds` maps state components (`tasks`, `validations`, `fraud`, …) to the primary's live
    `{key: state}`; components that the primary does not fold may be absent. What has left these is
    in `past`.
    """

    def __init__(
        self, home: str, folds: Mapping[str, Mapping[str, State]], past: Past | None = None
    ) -> None:
        self.home = home
        self._folds = folds
        self._past = past or NoPast()
        self._reviewers: list[str] = []
        self._operators: dict[str, str] = {}
        """Miner → who runs it."""
        self._run_by: dict[str, set[str]] = defaultdict(set)
        """Operator → its miners that may review."""
        self._equal = Equal()
        self._said: dict[str, Testimony] = {}
        """Validation in memory → what it says."""
        self._tallies = Tallies()
        """What those in memory say."""
        self._watched: set[str] = set()
        """Those of whom the audits know that they are watched."""
        self._peers: dict[str, set[str]] = defaultdict(set)
        """Miner → peer reviews of its solutions, and those in which it voted for them."""
        self._cases: dict[str, set[str]] = defaultdict(set)
        self._task_rewards: dict[str, set[str]] = defaultdict(set)
        self._case_rewards: dict[str, set[str]] = defaultdict(set)
        self._audits: dict[str, None] = {}

    def changed(self, state: State | None) -> None:
        """Note a state of the primary's own fold. Idempotent; None (deleted) changes nothing."""
        if isinstance(state, ValidationState):
            self._note_validation(state)
            self._note_audit(state)
        elif isinstance(state, FraudState):
            if state.validation_id is not None:
                self._note_case(state, state.validation_id)
        elif isinstance(state, RewardState) and state.task_id:
            self._note_reward(state)

    def _note_reward(self, state: RewardState) -> None:
        _note(self._task_rewards, state.task_id, state)
        for case in held_by(state):
            _note(self._case_rewards, case, state)

    def _note_case(self, state: FraudState, validation: str) -> None:
        cases = self._cases[validation]
        (cases.add if state.status == "suspected" else cases.discard)(state.key)
        if not cases:
            del self._cases[validation]
        if state.rule in JUDGED_BY_EXPERT:
            self.look_at(validation)

    def look_at(self, validation: str) -> None:
        """Whether an expert should look at it, anew; in doubt one should."""
        try:
            state = self.validation(validation)
        except Unavailable:  # it has left, and is not to be had now
            self._audits[validation] = None
            return
        if state is not None:
            self._note_audit(state)

    def _note_validation(self, state: ValidationState) -> None:
        self._equal.note(state)
        said = testimony(state)
        before = self._said.get(state.key, ())
        if said != before:
            self._tallies.add(before, -1)
            self._tallies.add(said)
            self._said[state.key] = said
        votes = [v for v in state.votes if v.voter_kind == "peer-review"]
        for voter in (v.voter_id for v in votes if v.accept):
            self._peers[voter].add(state.key)
        if votes:
            self._peers[state.miner_id].add(state.key)
        for miner in {state.miner_id, *(v.voter_id for v in votes)}:
            self.look_again(miner)

    def look_again(self, miner_id: str) -> None:
        """Look anew at what a miner had a part in, once it is watched, or no more."""
        watched = self.watched(miner_id)
        if watched == (miner_id in self._watched):
            return
        (self._watched.add if watched else self._watched.discard)(miner_id)
        for key in sorted(self._peers.get(miner_id, ())):
            self.look_at(key)

    def arrived(self, state: State) -> None:
        """One that has left long ago was found, and `past` has it: what that changes here."""
        if isinstance(state, ValidationState):
            for miner in {state.miner_id, *(v.voter_id for v in state.votes)}:
                self.look_again(miner)
            if state.key in self._cases:
                self._note_audit(state)

    def left(self, state: State) -> None:
        """A state has left the memory; what it says is in `past` now."""
        if not isinstance(state, ValidationState):
            return
        self._tallies.add(self._said.pop(state.key, ()), -1)
        self._equal.forget(state)
        parties = {state.miner_id, *(v.voter_id for v in state.votes)}
        for party in parties & self._peers.keys():
            self._peers[party].discard(state.key)
            if not self._peers[party]:
                del self._peers[party]

    def _note_audit(self, state: ValidationState) -> None:
        cases = (self.case(key) for key in self._cases.get(state.key, ()))
        suspected = any(case is not None and case.rule in JUDGED_BY_EXPERT for case in cases)
        voters = (v.voter_id for v in state.votes if v.voter_kind == "peer-review" and v.accept)
        watched = any(map(self.watched, (state.miner_id, *voters)))
        if audit_due(state, suspected, watched):
            self._audits[state.key] = None
        else:
            self._audits.pop(state.key, None)

    def audits_due(self) -> list[str]:
        """Decided validations that an expert should look at, first noted first. Any thread."""
        return list(self._audits)

    def may_leave(self, state: State) -> bool:
        """True for what nobody looks for in memory any more, or is about to."""
        return ended(state) and state.key not in self._audits

    def miner_fact(self, fact: Fact) -> None:
        """Note a fact of this region's `.miners`, in order: who may review."""
        data = fact.data
        if isinstance(data, m.MinerRegistered):
            self._operators[fact.envelope.aggregate_id] = data.operator_id
        if isinstance(data, m.MinerRegistered | m.MinerReinstated):
            self._may_review(fact.envelope.aggregate_id, True)
        elif isinstance(data, m.MinerSuspended | m.MinerRetired):
            self._may_review(fact.envelope.aggregate_id, False)

    def miner_state(self, state: MinerState) -> None:
        """As the facts that made a miner's state: who may review."""
        self._operators[state.key] = state.operator_id
        self._may_review(state.key, state.status == "active")

    def _may_review(self, key: str, may: bool) -> None:
        mine = self._run_by[self._operators.get(key, key)]
        (mine.add if may else mine.discard)(key)
        at = bisect_left(self._reviewers, key)
        here = at < len(self._reviewers) and self._reviewers[at] == key
        if may and not here:
            self._reviewers.insert(at, key)
        elif here and not may:
            del self._reviewers[at]

    def _get(self, component: str, key: str) -> State | None:
        fold = self._folds.get(component)
        return None if fold is None else fold.get(key)

    def task(self, task_id: str) -> TaskState | None:
        """See View."""
        return cast("TaskState | None", self._get("tasks", task_id))

    def miner(self, miner_id: str) -> MinerState | None:
        """See View."""
        return cast("MinerState | None", self._get("miners", miner_id))

    def validation(self, validation_id: str) -> ValidationState | None:
        """See View."""
        return cast("ValidationState | None", self._get("validations", validation_id))

    def case(self, case_id: str) -> FraudState | None:
        """See View."""
        return cast("FraudState | None", self._get("fraud", case_id))

    def reviewers(self) -> Sequence[str]:
        """See View."""
        return self._reviewers

    def of_same_operator(self, miner_id: str) -> Set[str]:
        """See View."""
        return {miner_id, *self._run_by.get(self._operators.get(miner_id, miner_id), ())}

    def firsts(self, solution_sha256: str) -> Sequence[HandedIn]:
        """See View."""
        gone = self._past.firsts(solution_sha256)
        return firsts((*self._equal.firsts(solution_sha256), *gone))

    def after(self, one: HandedIn) -> Sequence[HandedIn]:
        """See View."""
        gone = (other for other in self._past.firsts(one.solution_sha256) if other > one)
        return sorted({*self._equal.after(one), *gone})

    def _record(self, miner_id: str, column: int) -> Record:
        return record(column, self._tallies.of(miner_id), self._past.sums(miner_id))

    def honeypots(self, miner_id: str) -> Record:
        """See View."""
        return self._record(miner_id, HONEYPOTS)

    def work(self, miner_id: str) -> Record:
        """See View."""
        return self._record(miner_id, WORK)

    def reviews(self, miner_id: str) -> Record:
        """See View."""
        return self._record(miner_id, REVIEWS)

    def watched(self, miner_id: str) -> bool:
        """See View."""
        return weight(self.work(miner_id)) > INNOCENT or weight(self.reviews(miner_id)) > INNOCENT

    def open_cases(self, validation_id: str) -> Sequence[str]:
        """See View."""
        return sorted(self._cases.get(validation_id, ()))

    def _rewards(self, keys: set[str]) -> Sequence[RewardState]:
        found = (self._get("rewards", key) for key in sorted(keys))
        return [cast("RewardState", state) for state in found if state is not None]

    def reward(self, reward_id: str) -> RewardState | None:
        """See View."""
        return cast("RewardState | None", self._get("rewards", reward_id))

    def rewards_of_task(self, task_id: str) -> Sequence[RewardState]:
        """See View."""
        return self._rewards(self._task_rewards.get(task_id, set()))

    def rewards_of_case(self, case_id: str) -> Sequence[RewardState]:
        """See View."""
        return self._rewards(self._case_rewards.get(case_id, set()))
