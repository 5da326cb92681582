"""What is special about miner registries: what they react to, and whom they keep."""

from __future__ import annotations

from everlode.events.states import MinerState, State
from everlode.membership.agent import Load
from everlode.primary.component import Component
from everlode.topics import Topology


class MinerComponent(Component):
    """Miners of one home region."""

    name = "miners"
    states = ("miners",)
    causes = ("tasks", "validations")

    def __init__(self, home: str, topology: Topology) -> None:
        self._registered: set[str] = set()
        super().__init__(home, topology)

    def changed(self, old: State | None, new: State | None) -> None:
        """See Component."""
        if isinstance(new, MinerState):
            if new.status == "retired":
                self._registered.discard(new.key)
            else:
                self._registered.add(new.key)

    def load(self) -> Load:
        """See Component: the miners that are registered."""
        return Load(current_tasks=len(self._registered), work_done=self.folds.folded)
