"""`everlode detector run`: where the detection agent starts from, and its own heartbeats. Shell."""

from __future__ import annotations

import sys

from everlode.agents.app import run_app
from everlode.agents.detection import DetectionAgent
from everlode.membership.agent import Identity, Load
from everlode.processes.host import agent_of, place_of
from everlode.settings.endpoints import Endpoints
from everlode.settings.environment import settings
from everlode.telemetry.entries import DetectorEnded, ProcessReady, StopHung
from everlode.telemetry.sink import to_stream


def run_detector(region: str, node_id: str, endpoints: Endpoints) -> None:
    """Run a detector until SIGTERM or SIGINT. Raises: ConfigError: unknown region."""
    report = to_stream(node_id, "text")
    place = place_of(endpoints, region)
    cfg = settings()
    topology = cfg.load_topology()
    detection = DetectionAgent(
        place.origin, place.kafka_bootstrap, node_id, f"detector.{place.origin}"
    )
    agent = agent_of(
        Identity(node_id, region, place.origin, "detector"),
        endpoints,
        topology,
        cfg,
        load=lambda: Load(work_done=detection.records),
    )
    agent.start()
    report(ProcessReady())
    code = run_app(detection.app, lambda after_s: report(StopHung(after_s)))
    report(DetectorEnded(detection.records, detection.verdicts))
    agent.close()
    sys.exit(code)
