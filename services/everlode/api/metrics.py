"""Figures for Prometheus: base units, names of its ecosystem, never a task's or miner's id.

What is counted is counted from the streams, so that a server that is started anew goes on with the
same numbers, as long as they are kept. Shell: asks the network when it is scraped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import product

from fastapi import APIRouter
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.responses import Response

from everlode.api.asking import Net, needs
from everlode.api.lags import MOST_S, lag_of_topics
from everlode.api.network import MACHINERY, Network
from everlode.api.queries import works
from everlode.api.tokens import Role
from everlode.errors import EverlodeError
from everlode.events.catalogue import EVENTS
from everlode.events.services import SERVICES
from everlode.events.stamp import millis_of
from everlode.telemetry.figures import REGISTRY
from everlode.topics.catalogue import catalogue
from everlode.views.operations import HEALING

router = APIRouter(include_in_schema=False, dependencies=[needs(Role.VIEWER)])
FAILOVER = "-failover"
OTHERS = ("backup", "drill", HEALING, "recovery", "takeover")
"""Kinds of operations that are of a region."""
HEALTH = tuple(name for name, kind in EVENTS.items() if kind.topic == "health")


def _may_end(regions: Iterable[str]) -> Iterator[tuple[str, str, bool]]:
    """(kind, scope or region, success) of what can end."""
    for region, success in product(regions, (False, True)):
        yield from ((s.operation, f"{s.scope}/{region}", success) for s in SERVICES)
        yield from ((kind, region, success) for kind in OTHERS)


class Figures(Collector):
    """All figures of a network; a part that does not answer has none, and `everlode_up` is 0."""

    def __init__(self, network: Network) -> None:
        self._network = network

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        up = GaugeMetricFamily("everlode_up", "Whether a part answers the server.", labels=["part"])
        parts = {
            "control": self._control, "streams": self._streams, "projection": self._lag,
            "kafka": self._dead_letters,
        }  # fmt: skip
        for part, figures in parts.items():
            try:
                yield from figures()
                up.add_metric([part], 1)
            except EverlodeError:  # the figure says so
                up.add_metric([part], 0)
        yield up

    def _control(self) -> list[Metric]:
        control = self._network.control()
        epoch = GaugeMetricFamily("everlode_scope_epoch", "Epoch of a scope.", labels=["scope"])
        led = GaugeMetricFamily(
            "everlode_scope_led", "Whether its primary is not known to have failed.",
            labels=["scope"],
        )  # fmt: skip
        for name, scope in sorted(control.scopes.items()):
            epoch.add_metric([name], scope.epoch)
            led.add_metric([name], works(control, name))
        labels = ["region", "component", "status"]
        nodes = GaugeMetricFamily("everlode_nodes", "Nodes by their status.", labels=labels)
        found = Counter((n.region, n.component, n.status) for n in control.nodes.values())
        for key, count in sorted(found.items()):
            nodes.add_metric(list(key), count)
        return [epoch, led, nodes]

    def _streams(self) -> list[Metric]:
        """Each that may come is there from the start, at 0: what compares with before sees it.

        Raises: Unavailable: the stream is not read to its end yet, so that the counts would jump.
        """
        network = self._network
        network.feed(MACHINERY).require_level()
        ended = dict.fromkeys(_may_end(network.endpoints.regions), 0) | network.operations.ended
        failovers = CounterMetricFamily(
            "everlode_failovers", "Failovers that have ended.", labels=["scope", "success"]
        )
        others = CounterMetricFamily(
            "everlode_operations", "Other operations that have ended.",
            labels=["kind", "region", "success"],
        )  # fmt: skip
        for (kind, where, success), count in sorted(ended.items()):
            word = str(success).lower()
            if kind.endswith(FAILOVER):
                failovers.add_metric([where, word], count)
            else:
                others.add_metric([kind, where, word], count)
        cuts = GaugeMetricFamily(
            "everlode_backup_cut_timestamp_seconds",
            "Moment up to which the newest backup holds all, in seconds since 1970.",
            labels=["region"],
        )
        for region, stamp in sorted(network.operations.cuts.items()):
            cuts.add_metric([region], millis_of(stamp) / 1000)
        verdicts = CounterMetricFamily(
            "everlode_health_events", "Events of health.", labels=["region", "type"]
        )
        none = dict.fromkeys(product(network.endpoints.regions, HEALTH), 0)
        for key, count in sorted((none | network.verdicts).items()):
            verdicts.add_metric(list(key), count)
        listening = GaugeMetricFamily(
            "everlode_event_listeners", "Who follows /events of this server.", labels=["stream"]
        )
        for name, count in network.listeners().items():
            listening.add_metric([name], count)
        return [failovers, others, cuts, verdicts, listening]

    def _lag(self) -> list[Metric]:
        found = GaugeMetricFamily(
            "everlode_projection_lag_seconds",
            "Age of the newest moment up to which all facts of a topic are in.",
            labels=["region", "topic"],
        )
        for topic, lag in sorted(lag_of_topics(self._network).items()):
            if lag < MOST_S:  # else it has never had a fact
                found.add_metric([self._network.region, topic], lag)
        return [found]

    def _dead_letters(self) -> list[Metric]:
        network = self._network
        found = GaugeMetricFamily(
            "everlode_dead_letters", "Dead letters that are kept.", labels=["region", "topic"]
        )
        specs = catalogue(network.endpoints.topology)
        places = [
            (spec.name, partition)
            for spec in specs
            if spec.cluster == network.region and spec.name.startswith("dlt.")
            for partition in range(spec.partitions)
        ]
        with network.reader(network.region) as reader:
            for (topic, _), (begin, end) in sorted(reader.bounds(places, 5).items()):
                found.add_metric([network.region, topic], end - begin)
        return [found]


@router.get("/metrics")
def metrics(network: Net) -> Response:
    """All figures, and those of this process, in Prometheus's text format."""
    registry = CollectorRegistry()
    registry.register(Figures(network))
    text = generate_latest(registry) + generate_latest(REGISTRY)
    return Response(text, media_type=CONTENT_TYPE_LATEST)
