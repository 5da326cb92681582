"""What a primary may look at when it reacts: its own folds, and small indexes over them.

`View` is all that a reaction reads; `HomeView` is the implementation over a primary's live folds.
A primary feeds it `changed(state)` after each of its own fold steps (again after a
restart, for every state), and the validation primary all of its region's `.miners` facts from
the beginning of the topic, by `miner_fact`. Both are idempotent: sets and maps, no counters.
Invariants: a view already includes the fact that is reacted to, and may be ahead of it. Pure but
for its own memory.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, cast

from everlode.events import miners as m
from everlode.events.base import Fact
from everlode.events.states import (
    FraudState,
    MinerState,
    RewardState,
    State,
    TaskState,
    ValidationState,
)
from everlode.state.auditing import JUDGED_BY_EXPERT, audit_due, proved
from everlode.state.ended import ended
from everlode.state.fraudrules import (
    INNOCENT,
    SMALL_BYTES,
    HandedIn,
    Record,
    firsts,
    handed_in,
    weight,
)
from everlode.state.rewardfolds import held_by


class Where(NamedTuple):
    """Where the fact that is reacted to stands in this region's cluster."""

    topic: str
    partition: int
    offset: int


class _Records:
    """Records by subject; each thing is counted once, as it was noted last."""

    def __init__(self) -> None:
        self._sides: dict[str, tuple[set[str], dict[str, int]]] = {}
        self._worth: Counter[str] = Counter()
        """Subject → base rewards of what it was wrong in."""

    def note(self, subject: str, state: ValidationState, right: bool) -> None:
        """`subject` was right, or wrong, in a validation."""
        good, bad = self._sides.setdefault(subject, (set(), {}))
        self._worth[subject] -= bad.pop(state.key, 0)
        if right:
            good.add(state.key)
        else:
            good.discard(state.key)
            bad[state.key] = state.base_reward_micro
            self._worth[subject] += state.base_reward_micro

    def of(self, subject: str) -> Record:
        """The record of `subject`."""
        good, bad = self._sides.get(subject, ((), ()))
        return Record(len(good), len(bad), self._worth[subject])


class _Equal:
    """Large solutions by SHA-256, in the order in which they were handed in."""

    def __init__(self) -> None:
        self._all: dict[str, list[HandedIn]] = {}
        self._firsts: dict[str, tuple[HandedIn, ...]] = {}

    def note(self, state: ValidationState) -> None:
        """One was handed in. Idempotent; cheap when it is the last."""
        if (state.solution_bytes or 0) < SMALL_BYTES:
            return
        one = handed_in(state)
        known = self._all.setdefault(state.solution_sha256, [])
        at = bisect_left(known, one)
        if at == len(known) or known[at] != one:
            known.insert(at, one)
            old = self._firsts.get(state.solution_sha256, ())
            self._firsts[state.solution_sha256] = firsts((*old, one))

    def firsts(self, sha256: str) -> Sequence[HandedIn]:
        """The first ones, as many as tell whether another is a copy."""
        return self._firsts.get(sha256, ())

    def after(self, one: HandedIn) -> Sequence[HandedIn]:
        """Those equal to it that were handed in after it."""
        known = self._all.get(one.solution_sha256, [])
        return known[bisect_right(known, one) :]


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
    `{key: state}`; components that the primary does not fold may be absent.
    """

    def __init__(self, home: str, folds: Mapping[str, Mapping[str, State]]) -> None:
        self.home = home
        self._folds = folds
        self._reviewers: list[str] = []
        self._equal = _Equal()
        self._honeypots, self._work, self._reviews = _Records(), _Records(), _Records()
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
                cases = self._cases[state.validation_id]
                (cases.add if state.status == "suspected" else cases.discard)(state.key)
                judged = self.validation(state.validation_id)
                if judged is not None:
                    self._note_audit(judged)
        elif isinstance(state, RewardState) and state.task_id:
            self._note_reward(state)

    def _note_reward(self, state: RewardState) -> None:
        _note(self._task_rewards, state.task_id, state)
        for case in held_by(state):
            _note(self._case_rewards, case, state)

    def _note_validation(self, state: ValidationState) -> None:
        self._equal.note(state)
        if state.status == "decided" and state.planted_sha256 is not None:
            right = state.solution_sha256 == state.planted_sha256 or state.accepted is True
            self._honeypots.note(state.miner_id, state, right)
        self._note_records(state)

    def _note_records(self, state: ValidationState) -> None:
        """What it says about its solver and its reviewers."""
        votes = {v.voter_id: v.accept for v in state.votes if v.voter_kind == "peer-review"}
        parties = {state.miner_id, *votes}
        before = {party for party in parties if self.watched(party)}
        good = proved(state)
        if good is not None:
            self._work.note(state.miner_id, state, good)
        for voter, accept in votes.items():
            if good is False:
                self._reviews.note(voter, state, not accept)
            if accept:
                self._peers[voter].add(state.key)
        if votes:
            self._peers[state.miner_id].add(state.key)
        for party in parties:
            if (party in before) == self.watched(party):
                continue
            for key in self._peers.get(party, ()):  # what it had a part in is looked at anew
                other = self.validation(key)
                if other is not None:
                    self._note_audit(other)

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

    def miner_fact(self, fact: Fact) -> None:
        """Note a fact of this region's `.miners`, in order: who may review."""
        data = fact.data
        if isinstance(data, m.MinerRegistered | m.MinerReinstated):
            self._may_review(fact.envelope.aggregate_id, True)
        elif isinstance(data, m.MinerSuspended | m.MinerRetired):
            self._may_review(fact.envelope.aggregate_id, False)

    def miner_state(self, state: MinerState) -> None:
        """As the facts that made a miner's state: who may review."""
        self._may_review(state.key, state.status == "active")

    def _may_review(self, key: str, may: bool) -> None:
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

    def firsts(self, solution_sha256: str) -> Sequence[HandedIn]:
        """See View."""
        return self._equal.firsts(solution_sha256)

    def after(self, one: HandedIn) -> Sequence[HandedIn]:
        """See View."""
        return self._equal.after(one)

    def honeypots(self, miner_id: str) -> Record:
        """See View."""
        return self._honeypots.of(miner_id)

    def work(self, miner_id: str) -> Record:
        """See View."""
        return self._work.of(miner_id)

    def reviews(self, miner_id: str) -> Record:
        """See View."""
        return self._reviews.of(miner_id)

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
