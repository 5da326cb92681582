"""What a coordinator sees of a scope, for operators: who leads, who could, what it would do.

Shell: `look` reads the logs once, and all else follows from what it saw.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from everlode.adapters.kafka import Reader
from everlode.adapters.kafka_follower import ControlFollower
from everlode.avro.codec import Codec
from everlode.control.fold import ControlState
from everlode.control.scopes import Scope
from everlode.control.sites import losses
from everlode.errors import ContractError, NotFound, Precondition, Refusal
from everlode.events.base import Event, Fact
from everlode.events.control import RegionSuspected, ScopeAssigned
from everlode.events.nodes import NodeStatus
from everlode.events.recovery import ValidationDelayMeasured, ValidationRecoveryEnded
from everlode.events.services import BY_FACTS, BY_SCOPE
from everlode.failover.estimates import History
from everlode.failover.planner import GONE, Beating, Planner, View, candidates, foresee
from everlode.failover.policy import Policies, Succession
from everlode.settings.endpoints import Endpoints
from everlode.snapshots.read import read_snapshot
from everlode.topics.names import fact_topic
from everlode.topics.place import TopicPartition
from everlode.views.beats import beating

Rows = list[dict[str, Any]]


class Seen(NamedTuple):
    """The logs, read to their ends."""

    scope: str
    control: ControlState
    decisions: list[dict[str, Any]]
    """Decisions about the scope, in log order; `void` says why one does not count."""
    beats: dict[str, Beating]
    planner: Planner[Any]
    """What its service does about a lost node."""
    work: Callable[[str], Any]
    """Node → what it would leave to do."""
    written: Callable[[str], int] = lambda _: 0
    """Node → stamp up to which it had read or written its log, by its last beat."""
    history: History | None = None
    """What earlier handlings of this kind took."""


def look(endpoints: Endpoints, scope: str, partitions: int, policies: Policies) -> Seen:
    """Read what there is about `scope`; `partitions` of a topic, as the topology says.

    The scope's policy of `policies`, new ones, observes the facts that it follows.

    Raises: Refusal: it is no scope. NotFound: its region is not there. Unavailable.
    """
    region = region_of_scope(endpoints, scope)
    control, decisions, _ = recorded(endpoints, scope)
    place = endpoints.regions[region]
    reader = Reader(place.kafka_bootstrap, "scope-explain", wait_ms=20)
    try:
        beats = beating(reader, place.origin, partitions)
        policy = policies.get(scope.partition("/")[0], Succession())
        if policy.facts is not None:
            parts = endpoints.parts(region)
            found = read_snapshot(parts.bootstrap, parts.origin, policy.facts, parts.partitions)
            policy.restore(found)
            topic = fact_topic(parts.origin, policy.facts)
            starts = {at: found.next_offset(at[1]) for at in _all(topic, partitions)}
            _facts(reader, starts, policy.observe)
        service = BY_SCOPE.get(scope.partition("/")[0])
        topic = fact_topic(place.origin, "recovery")
        history = _history(reader, topic, service.ended) if service else History()
    finally:
        reader.close()

    def written(node: str) -> int:
        return (beats[node].read_stamp or 0) if node in beats else 0

    return Seen(scope, control, decisions, beats, policy, policy.work, written, history)


def nothing_seen(scope: str, control: ControlState) -> Seen:
    """A scope by the control log alone: its home does not answer."""
    policy = Succession()
    return Seen(scope, control, [], {}, policy, policy.work)


def _history(reader: Reader, topic: str, end: type[Event]) -> History:
    """What the recovery stream has of earlier handlings; each end once, as its coordinator has."""
    found, ended = History(), set[str]()

    def observe(_: int, fact: Fact) -> None:
        if isinstance(fact.data, end):
            if fact.envelope.aggregate_id not in ended:
                found.observe(fact.data)
            ended.add(fact.envelope.aggregate_id)
        elif isinstance(fact.data, ValidationDelayMeasured) and end is ValidationRecoveryEnded:
            if fact.envelope.event_id not in ended:
                found.measured(fact.data.estimated_delay_ms, fact.data.actual_delay_ms)
            ended.add(fact.envelope.event_id)

    _facts(reader, {(topic, 0): 0}, observe)
    return found


def recorded(endpoints: Endpoints, scope: str) -> tuple[ControlState, Rows, Rows]:
    """The control log, and its records about a scope: decisions; of a coordinator's scope what the
    others' coordinators said of its region. The region itself is not asked.

    Raises: Refusal: it is no scope. NotFound: its region is not there. Unavailable.
    """
    region_of_scope(endpoints, scope)
    found: Rows = []
    suspected: Rows = []
    told: dict[str, tuple[Any, ...]] = {}
    """Observer → what its last word came to: one that is only said again is no news."""

    def observe(offset: int, fact: Fact, state: ControlState) -> None:
        data = fact.data
        if isinstance(data, RegionSuspected) and scope == f"coordinator/{data.region}":
            row = suspicion(offset, fact, data, state)
            if told.get(data.observer) != (found_now := (row["over"], row["counts"], row["lost"])):
                suspected.append(row)
            told[data.observer] = found_now
        if not isinstance(data, ScopeAssigned) or data.scope_name != scope:
            return
        reason = next((v.reason for v in state.void if v.offset == offset), None)
        found.append(
            {
                "offset": offset,
                "at": fact.envelope.occurred_at.isoformat(timespec="milliseconds"),
                "epoch": data.new_epoch,
                "primary": data.primary_node,
                "reason": data.reason,
                "failed_node": data.failed_node,
                "verdict_id": data.verdict_id,
                "decided_by": fact.envelope.correlation_id,
                "based_on": data.based_on,
                "coordinator_epoch": data.coordinator_epoch,
                "void": reason,
            }
        )

    follower = ControlFollower(endpoints.control(), observe, wait_ms=20, whole=True)
    try:
        state = follower.start(15).state
    finally:
        follower.close()
    return state, found, suspected


def suspicion(
    offset: int, fact: Fact, data: RegionSuspected, state: ControlState
) -> dict[str, Any]:
    """A word of one region's coordinator on another; `state` is after it. Pure."""
    stands = state.suspicions.get(f"{data.observer}/{data.region}")
    return {
        "offset": offset,
        "at": fact.envelope.occurred_at.isoformat(timespec="milliseconds"),
        "observer": data.observer,
        "over": data.over,
        "silence_ms": data.silence_ms,
        "counts": stands is not None and stands.offset == offset,
        "lost": data.region in losses(state),
    }


def region_of_scope(endpoints: Endpoints, scope: str) -> str:
    """The region of a scope's text. Raises: Refusal: it is no scope. NotFound: no such region."""
    try:
        region = Scope.parse(scope).home
    except ContractError as error:
        raise Refusal(error.message, code="bad_scope", hint=error.hint) from None
    if region not in endpoints.regions:
        raise NotFound(f"region {region!r}", hint=f"there are: {', '.join(endpoints.regions)}")
    return region


def _all(topic: str, partitions: int) -> list[TopicPartition]:
    return [(topic, p) for p in range(partitions)]


def _facts(
    reader: Reader, starts: dict[TopicPartition, int], observe: Callable[[int, Fact], None]
) -> None:
    codec = Codec()
    for batch in reader.to_ends(starts, 60):
        for raw in batch:
            try:
                observe(raw.partition, codec.decode_fact(raw.value))
            except ContractError:
                continue


def view_of_loss(seen: Seen, node_id: str | None = None) -> View[Any]:
    """The coordinator's view if `node_id` (the primary without it) were lost now.

    Raises: Precondition: the scope has no primary. NotFound: no such node.
    """
    led = seen.control.scopes.get(seen.scope)
    if led is None:
        raise Precondition(f"{seen.scope} has no primary", hint="start a node and a coordinator")
    node = seen.control.nodes.get(node_id or led.primary)
    if node is None or f"{node.component}/{node.region}" != seen.scope:
        raise NotFound(f"no node of {seen.scope} is named {node_id or led.primary!r}")
    lost = node if node.status in GONE else node._replace(status=NodeStatus.LOST.value)
    return View(
        seen.control,
        lost,
        {n: b for n, b in seen.beats.items() if n != lost.node_id},
        led.epoch,
        False,
        seen.work(lost.node_id),
        written=seen.written(lost.node_id),
    )


def explained(seen: Seen) -> dict[str, Any]:
    """The scope as it stands, with all nodes of its component and why each may not be promoted."""
    led = seen.control.scopes.get(seen.scope)
    nodes: list[dict[str, Any]] = []
    node = seen.control.nodes.get(led.primary) if led is not None else None
    if led is not None and node is not None and f"{node.component}/{node.region}" == seen.scope:
        for c in candidates(view_of_loss(seen)):
            leads = c.node_id == led.primary
            nodes.append(c._asdict() | {"excluded": "it leads" if leads else c.excluded})
    return {
        "scope": seen.scope,
        "epoch": led.epoch if led else 0,
        "primary": (led.primary or None) if led else None,
        "region": led.region if led else None,
        "decided_at": led.decided_at if led else None,
        "renewed_at": led.renewed_at if led else None,
        "control_position": seen.control.position,
        "candidates": nodes,
        "recovery": _foreseen(seen),
    }


def _foreseen(seen: Seen) -> dict[str, Any]:
    """How long a handling would take, from how many cases, and how well that was foreseen; of
    validations also how well it was how long what waited would wait on."""
    history = seen.history or History()
    estimates = seen.scope.startswith(f"{BY_FACTS['validations'].scope}/")
    return {
        **history.estimate._asdict(),
        "score": history.score._asdict(),
        "delay_score": history.delay_score._asdict() if estimates else None,
    }


def planned(seen: Seen, node_id: str | None = None) -> list[dict[str, Any]]:
    """The steps that a coordinator would take if the node were lost now."""
    return [
        {"step": type(step).__name__, **step._asdict()}
        for step in foresee(view_of_loss(seen, node_id), seen.planner)
    ]
