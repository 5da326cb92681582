"""What compaction leaves of the control log gives the same fold as all of it."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from everlode.control.fold import MAX_TICKS, ControlState, apply
from everlode.control.keys import KEPT, lease_of, record_key
from everlode.control.snapshot import begin, to_bytes
from everlode.events import control as e
from everlode.events.base import Envelope, Event, Fact

COORDINATOR, TASKS = "coordinator/eu", "task-manager/eu"
SCOPES = (COORDINATOR, TASKS)
NODES = ("a", "b")
SPARE = KEPT - (MAX_TICKS + 2)
"""Renewals that a process may send after it has lost a lease, and before it reads so."""


class Record(NamedTuple):
    """A record as it stands in the topic."""

    offset: int
    key: str
    fact: Fact


class Log:
    """Everything that was appended, and its fold."""

    def __init__(self) -> None:
        self.state = ControlState()
        self.records: list[Record] = []
        self._sent, self._void = Counter[str](), Counter[str]()

    def append(self, subject: str, data: Event) -> None:
        offset = len(self.records)
        number = 0
        if isinstance(data, e.LeaseRenewed):
            lease = lease_of(data)
            scope = self.state.scopes.get(data.scope_name)
            counts = scope is not None and (scope.primary, scope.epoch, data.incarnation) == (
                data.node_id,
                data.held_epoch,
                self.state.incarnation(data.node_id),
            )
            self._void[lease] += not counts
            if self._void[lease] > SPARE:
                return  # nobody goes on for so long without having read it
            self._sent[lease] += 1
            number = self._sent[lease]
        envelope = Envelope.model_construct(scope=COORDINATOR, epoch=0, correlation_id="c")
        record = Record(
            offset, record_key(subject, str(offset), data, number), Fact(envelope, data)
        )
        self.records.append(record)
        self.state = apply(self.state, *record[::2])

    def assign(
        self, scope: str, node: str, back: int, skip: int = 0, grounds: bool = False
    ) -> None:
        """A decision that is based on what stood `back` records ago; `skip`: on a wrong epoch;
        `grounds`: it names who made it.
        """
        epoch = self.state.epoch(scope) - skip
        if epoch < 0:
            return
        based_on = max(0, self.state.position - back)
        decided = e.ScopeAssigned(
            scope_name=scope, new_epoch=epoch + 1, primary_node=node, region="eu", reason="forced",
            based_on=based_on, based_on_epoch=epoch,
            coordinator_epoch=self.state.epoch(COORDINATOR) if grounds else None,
        )  # fmt: skip
        self.append(scope, decided)

    def renew(self, scope: str, node: str, behind: int, times: int) -> None:
        """A node renews the lease of its scope, as it was `behind` epochs ago."""
        process = self.state.incarnation(node)
        epoch = self.state.epoch(scope) - behind
        for _ in range(times if epoch > 0 else 0):
            self.append(
                scope,
                e.LeaseRenewed(
                    scope_name=scope, node_id=node, held_epoch=epoch, nonce="n",
                    incarnation=process,
                ),
            )  # fmt: skip

    def join(self, node: str, process: str) -> None:
        """Another process takes a node's name."""
        joined = e.NodeJoined(
            node_id=node, region="eu", component="coordinator", kind="", endpoint="", priority=0,
            incarnation=process, replaces=self.state.incarnation(node),
        )  # fmt: skip
        self.append(node, joined)

    def wish(self, verb: str, back: int, ends: bool) -> None:
        """An operator asks, by what stood `back` records ago, and may be answered."""
        operation = f"op-{len(self.records)}"
        asked = e.OperatorAsked.model_validate(
            {"operation_id": operation, "verb": verb, "scope_name": TASKS, "node_id": "",
             "operator": "ann", "reason": "", "expires_ms": 1, "based_on_epoch": 0,
             "based_on": max(0, self.state.position - back)}
        )  # fmt: skip
        self.append(TASKS, asked)
        if ends:
            over = e.OperatorAnswered(
                operation_id=operation, scope_name=TASKS, outcome="done", reason="r"
            )
            self.append(TASKS, over)


def compacted(records: list[Record], end: int) -> list[Record]:
    """As Kafka leaves it, once it has cleaned all before `end`: the newest of each key there."""
    newest = {record.key: record.offset for record in records[:end]}
    return [r for r in records if r.offset >= end or newest[r.key] == r.offset]


ACTIONS = st.one_of(
    st.tuples(st.just("assign"), st.sampled_from(SCOPES), st.sampled_from(NODES),
              st.integers(0, 40), st.sampled_from((0, 0, 0, 1)), st.booleans()),
    st.tuples(st.just("renew"), st.sampled_from(SCOPES), st.sampled_from(NODES),
              st.sampled_from((0, 0, 0, 1)), st.sampled_from((1, 2, MAX_TICKS + 2, 50))),
    st.tuples(st.just("wish"), st.sampled_from(("switchover", "pause", "resume")),
              st.integers(0, 40), st.booleans()),
    st.tuples(st.just("join"), st.sampled_from(NODES), st.sampled_from(("p", "q", "r"))),
)  # fmt: skip
LATE = [
    ("assign", COORDINATOR, "a", 0, 0),
    ("renew", COORDINATOR, "a", 0, 12),
    ("assign", TASKS, "b", 12, 0),
    ("renew", COORDINATOR, "a", 0, 50),
    ("assign", TASKS, "a", 0, 0),
]


OVERTAKEN = [
    ("assign", COORDINATOR, "a", 0, 0),
    ("renew", COORDINATOR, "a", 0, 3),
    ("assign", COORDINATOR, "b", 2, 0, True),
    ("renew", COORDINATOR, "a", 0, 50),
]


LATE_WISH = [
    ("assign", COORDINATOR, "a", 0, 0),
    ("renew", COORDINATOR, "a", 0, 12),
    ("wish", "switchover", 12, False),
    ("renew", COORDINATOR, "a", 0, 50),
    ("wish", "drain", 0, False),
]


@given(st.lists(ACTIONS, max_size=25), st.integers(0, 400), st.booleans())
@example(LATE, 60, True)
@example(LATE, 60, False)
@example(OVERTAKEN, 60, True)
@example(LATE_WISH, 60, True)
def test_fold_of_what_compaction_leaves_equals_the_fold_of_everything(
    actions: list[tuple[str, ...]], end: int, at_once: bool
) -> None:
    """`at_once`: it begins with a snapshot that is no newer than what was cleaned."""
    log = Log()
    for name, *arguments in actions:
        getattr(log, name)(*arguments)
    end = min(end, len(log.records))
    kept = ControlState()
    for record in log.records[: end if at_once else None]:
        kept = apply(kept, *record[::2])
    begun = begin(to_bytes(kept), len(log.records), whole=True)
    if begun is None:
        assert not log.records
        return
    assert (begun.position, dict(begun.late)) == (-1, dict(kept.late))
    left = compacted(log.records, end)
    for record in left:
        begun = apply(begun, *record[::2])
    if left:
        assert begun == log.state
    kept_decisions = [r for r in left if not isinstance(r.fact.data, e.LeaseRenewed)]
    assert kept_decisions == [
        r for r in log.records if not isinstance(r.fact.data, e.LeaseRenewed)
    ], "decisions stay"


def test_renewals_do_not_pile_up() -> None:
    log = Log()
    log.assign(COORDINATOR, "a", 0)
    log.renew(COORDINATOR, "a", 0, 1_000)
    assert len(compacted(log.records, len(log.records))) == 1 + KEPT


def test_late_decision_without_its_verdict_would_count() -> None:
    """So the verdict has to be kept: the law above is not true by itself."""
    log = Log()
    for name, *arguments in LATE:
        getattr(log, name)(*arguments)
    assert log.state.scopes[TASKS].primary == "a"
    state = ControlState()
    for record in compacted(log.records, len(log.records)):
        state = apply(state, *record[::2])
    assert state.scopes[TASKS].primary == "b"


@pytest.mark.parametrize("damaged", [None, b"", b"[]", b'{"state": 7}', b'{"state": {}}'])
def test_damaged_snapshot_has_no_say(damaged: bytes | None) -> None:
    assert begin(damaged, 10) is None


def test_snapshot_of_another_log_has_no_say() -> None:
    data = to_bytes(ControlState(position=10))
    assert begin(data, 10) is None
    assert begin(data, 11) == ControlState(position=10)
    assert begin(data, 11, whole=True) == ControlState()
