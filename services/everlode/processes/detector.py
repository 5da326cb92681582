"""`everlode detector run`: where the detection agent starts from, and its own heartbeats. Shell."""

from __future__ import annotations

import sys

from everlode.agents.app import run_app
from everlode.agents.detection import DetectionAgent
from everlode.membership.agent import Identity, Load
from everlode.processes.host import Host, agent_of, end_when_failed, hosted
from everlode.settings.endpoints import Endpoints
from everlode.telemetry.entries import DetectorEnded, ProcessReady, StopHung
from everlode.telemetry.figures import VERDICTS


def run_detector(region: str, node_id: str, endpoints: Endpoints) -> None:
    """Run a detector until SIGTERM or SIGINT. Raises: ConfigError: unknown region."""
    with hosted(node_id) as host:
        sys.exit(_run(region, node_id, endpoints, host))


def _run(region: str, node_id: str, endpoints: Endpoints, host: Host) -> int:
    """Returns Faust's exit code."""
    place = endpoints.region(region)
    cfg, report = host
    cfg.topology_of(endpoints)  # a setting that contradicts the stack is an error here too
    detection = DetectionAgent(
        place.origin, place.kafka_bootstrap, node_id, f"detector.{place.origin}",
        verdict=lambda found: VERDICTS.labels(type(found.data).__name__).inc(),
    )  # fmt: skip
    agent = agent_of(
        Identity(node_id, region, place.origin, "detector"),
        endpoints,
        cfg,
        load=lambda: Load(work_done=detection.records),
    )
    agent.start()
    report(ProcessReady())
    end_when_failed(agent)
    code = run_app(detection.app, lambda after_s: report(StopHung(after_s)))
    report(DetectorEnded(detection.records, detection.verdicts))
    failed = agent.failed
    agent.close()
    if failed is not None:
        raise failed
    return code
