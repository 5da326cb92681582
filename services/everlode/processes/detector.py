"""`everlode detector run`: where the detection agent starts from, and its own beats. Shell."""

from __future__ import annotations

import sys

from everlode.agents.app import run_app
from everlode.agents.detection import DetectionAgent
from everlode.membership.agent import Identity, Load
from everlode.processes.host import agent_of, place_of, say
from everlode.settings.endpoints import Endpoints
from everlode.settings.environment import settings


def run_detector(region: str, node_id: str, endpoints: Endpoints) -> None:
    """Run a detector until SIGTERM or SIGINT. Raises: ConfigError: unknown region."""
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
        load=lambda: Load(work_done=detection.beats),
    )
    agent.start()
    say(f"{node_id}: ready")
    code = run_app(detection.app)
    say(f"{node_id}: {detection.beats} records read, {detection.verdicts} verdicts published")
    agent.close()
    sys.exit(code)
