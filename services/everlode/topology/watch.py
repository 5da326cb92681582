"""Whether a step of a plan has come true: asked of processes, control log and recovery stream.

A node that ends is not announced in this build. Its heartbeats stop and its endpoint refuses, the
detector says that it is lost, the coordinator gives its scope and its tasks to others and publishes
the end of that. Only then has the node left. Shell: files, Kafka.
"""

from __future__ import annotations

from pathlib import Path

from everlode.adapters.kafka import Reader
from everlode.adapters.kafka_follower import ControlFollower
from everlode.avro.codec import Codec
from everlode.control.fold import NodeState
from everlode.errors import ContractError, Unavailable
from everlode.events.services import BY_NODE, SERVICES
from everlode.failover.planner import GONE, operation_id
from everlode.settings.endpoints import Endpoints
from everlode.stack.book import read_book
from everlode.stack.native.layout import log_of
from everlode.stack.native.lock import holder
from everlode.stack.services import Member
from everlode.topics.names import fact_topic
from everlode.topology.plan import Lead, Leave, Replace, Step, scope_of
from everlode.topology.running import alive_in

ENDED = tuple(service.ended for service in SERVICES)


class Watch:
    """Looks at one running stack; `close` it."""

    def __init__(self, folder: Path, endpoints: Endpoints) -> None:
        self._folder = folder
        self._endpoints = endpoints
        self._control = ControlFollower(endpoints.control(), wait_ms=50)
        self._control.start()
        self._codec = Codec()
        self._streams: dict[str, Reader] = {}
        self._handled: dict[str, bool] = {}
        """Operation that has ended → with success."""

    def lacks(self, step: Step) -> str:
        """What the step still waits for; empty once it has come true.

        Raises: Unavailable: it cannot come true any more.
        """
        if holder(self._folder) is None:
            raise Unavailable("the stack has ended", hint="everlode stack up, then apply again")
        if isinstance(step, Lead):
            return self._lacks_primary(scope_of(step.kind, step.region))
        if isinstance(step, Leave):
            return self._lacks_end(step.member)
        return self._lacks_start(step.member, replaced=isinstance(step, Replace))

    def close(self) -> None:
        """Leave."""
        self._control.close()
        for stream in self._streams.values():
            stream.close()

    def _lacks_start(self, member: Member, *, replaced: bool) -> str:
        """One that was replaced may have led: the next one waits until somebody does again."""
        given_up = read_book(self._folder).get(member.name)
        if given_up is not None and given_up.given_up:
            raise Unavailable(
                f"{member.name} is {given_up.why}",
                hint=f"its log is {log_of(self._folder, member.name)}",
            )
        found = alive_in(self._folder).get(member.name)
        if found is None or found.made_of != member.made_of:
            return "its process is started"
        node = self._control.state.nodes.get(member.node_id)
        if node is None or node.process_id != str(found.pid) or node.status in GONE:
            return "it joins"
        led = self._control.state.scopes.get(scope_of(member.kind, member.region))
        if replaced and led is not None and led.renewed_at < node.joined_at:
            return f"{led.scope} is led"
        return ""

    def _lacks_primary(self, scope: str) -> str:
        led = self._control.state.scopes.get(scope)
        return "" if led is not None and led.renewed_at >= 0 else f"{scope} has a primary"

    def _lacks_end(self, member: Member) -> str:
        if member.name in alive_in(self._folder):
            return "its process ends"
        control = self._control.state
        led = control.scopes.get(scope_of(member.kind, member.region))
        if led is not None and led.primary == member.node_id:
            return f"{led.scope} goes to another one"
        node = control.nodes.get(member.node_id)
        if member.kind not in BY_NODE or node is None:
            return ""
        if node.status not in GONE:
            return "its end is noticed"
        return self._lacks_handling(node)

    def _lacks_handling(self, node: NodeState) -> str:
        self._read(node.region)
        success = self._handled.get(operation_id(node))
        if success is False:
            raise Unavailable(
                f"{node.node_id} has left, and not all of its work was given up",
                hint=f"everlode scope explain {node.component}/{node.region}",
            )
        return "" if success else "what it managed is given up"

    def _read(self, region: str) -> None:
        place = self._endpoints.region(region)
        if region not in self._streams:
            self._streams[region] = Reader(place.kafka_bootstrap, "topology-apply", wait_ms=20)
            self._streams[region].assign({(fact_topic(place.origin, "recovery"), 0): 0})
        while batch := self._streams[region].batch(1000, 0.2, 0.05):
            for raw in batch:
                try:
                    fact = self._codec.decode_fact(raw.value)
                except ContractError:
                    continue
                if isinstance(fact.data, ENDED):
                    self._handled[fact.envelope.aggregate_id] = fact.data.success
