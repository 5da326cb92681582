"""What is special about miner registries: what they react to."""

from __future__ import annotations

from everlode.primary.component import Component


class MinerComponent(Component):
    """Miners of one home region."""

    name = "miners"
    states = ("miners",)
    causes = ("tasks", "validations")
