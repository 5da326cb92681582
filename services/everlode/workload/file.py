"""What the demo's processes share: one JSON file, written once at the start. Shell."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from everlode.topics import Topology
from everlode.workload.plan import Workload, plan
from everlode.workload.trace import generate, load, share_of


class PlanFile(BaseModel):
    """Where things are, and what the workload is made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: Path
    stack_dir: Path
    trace: Path | None
    share: float
    seed: int
    regions: tuple[str, ...]

    @property
    def clock_file(self) -> Path:
        """Knots of the event clock."""
        return self.root / "clock.json"

    def journal(self, region: str) -> Path:
        """Journal of a region's actors."""
        return self.root / "journal" / f"{region}.jsonl"

    def status(self, region: str) -> Path:
        """Status file of a region's actors."""
        return self.root / f"actors-{region}.json"

    def topology(self) -> Topology:
        """The topology of the run."""
        return Topology(regions=self.regions)

    def workload(self) -> Workload:
        """The plan: the same in every process. Raises: ConfigError."""
        trace = load(self.trace) if self.trace else generate(self.seed)
        return plan(share_of(trace, self.share), self.seed, self.regions)

    def save(self, path: Path) -> None:
        """Write it."""
        path.write_text(self.model_dump_json())

    @classmethod
    def load(cls, path: Path) -> PlanFile:
        """Read it."""
        return cls.model_validate(json.loads(path.read_text()))
