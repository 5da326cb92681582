"""`everlode coordinator run`. Shell."""

from __future__ import annotations

import time

from everlode.adapters.kafka import Reader
from everlode.control.scopes import Scope
from everlode.errors import Unavailable
from everlode.failover.coordinator import Coordinator
from everlode.failover.copies import Copies
from everlode.failover.limits import Limits
from everlode.failover.orders import Orders
from everlode.failover.regions import RegionWatch, places
from everlode.failover.taker import Taker
from everlode.membership.agent import Identity
from everlode.processes.host import Host, agent_of, hosted, until_signal
from everlode.processes.policies import policies
from everlode.sdk.client import MiningClient
from everlode.settings.endpoints import Endpoints
from everlode.telemetry.entries import ProcessReady, Unanswered


def run_coordinator(region: str, node_id: str, endpoints: Endpoints) -> None:
    """Run a coordinator until SIGTERM or SIGINT.

    Raises: ConfigError: unknown region. IntegrityError: the control log is damaged.
    """
    with hosted(node_id) as host:
        _run(region, node_id, endpoints, host)


def _run(region: str, node_id: str, endpoints: Endpoints, host: Host) -> None:
    place = endpoints.region(region)
    cfg, report = host
    topology, clock = cfg.topology_of(endpoints), cfg.clock()
    identity = Identity(node_id, region, place.origin, "coordinator")
    scopes = (str(Scope("coordinator", region)),)
    agent = agent_of(identity, endpoints, cfg, scopes=scopes)

    def client() -> MiningClient:
        return MiningClient(endpoints, region, node_id, clock=clock)

    stop = until_signal()
    agent.start()
    copies = Copies(endpoints, region)
    coordinator = Coordinator(
        endpoints.parts(region),
        agent,
        policies(cfg, topology.partitions),
        Orders(client, clock),
        Limits(cfg.fence_after_ms, cfg.renew_ms),
        copy_of=copies.look,
        report=report,
    )
    watched = places(endpoints, region)
    records = Reader(place.kafka_bootstrap, f"regions-{node_id}", wait_ms=200, uncommitted=True)
    records.assign(records.ends(watched))
    regions = RegionWatch(agent, records, watched, cfg.patience(), report=report)
    taker = Taker(agent, endpoints, cfg.fence_after_ms, report) if cfg.takeover else None
    report(ProcessReady())
    while not stop.is_set():
        if agent.failed is not None:
            raise agent.failed
        try:
            regions.turn()
            if taker is not None:
                taker.turn()
            coordinator.turn()
        except Unavailable as error:
            report(Unanswered(error.code, error.message, error.hint))
            time.sleep(0.5)
    if taker is not None:
        taker.close()
    regions.close()
    coordinator.close()
    copies.close()
    agent.close()
