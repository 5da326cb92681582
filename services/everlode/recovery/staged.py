"""What a manifest's objects hold, once they are staged; they were checked when they came. Shell."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from everlode.avro.plain import state_from_dict
from everlode.backup.container import DELETED, PARKED, read
from everlode.backup.manifest import Manifest
from everlode.errors import ContractError, IntegrityError
from everlode.events.catalogue import STATES
from everlode.projection.fold import Known


class Staged(NamedTuple):
    """The objects of one manifest in a folder. Order: always the same."""

    folder: Path
    manifest: Manifest

    def records(self, states: str) -> int:
        """How many states of a component there are."""
        return sum(o.records for o in self.manifest.objects if o.component == states)

    def states(self, states: str, partition: int) -> Iterator[dict[str, Any]]:
        """As plain values: what is there already costs a resumed recovery little.

        Raises: IntegrityError.
        """
        return self._read(states, partition, STATES[states].__name__)

    @staticmethod
    def state(states: str, partition: int, value: dict[str, Any]) -> Known:
        """The state that plain values are. Raises: IntegrityError."""
        try:
            state = state_from_dict(states, value)
        except ContractError as error:
            raise IntegrityError(f"{states}-{partition}: {error.message}") from None
        return Known(state, state.version, "")

    def deleted(self, states: str, partition: int) -> Iterator[tuple[str, int, str]]:
        """(key, version, event id) of what was deleted. Raises: IntegrityError."""
        for value in self._read(DELETED, partition):
            if value["component"] == states:
                yield value["key"], value["version"], value["event_id"]

    def parked(self, facts: str, partition: int) -> Iterator[tuple[str, int, bytes]]:
        """(topic, offset, fact) of a component's facts that wait. Raises: IntegrityError."""
        for value in self._read(PARKED, partition):
            if value["topic"].endswith(f".{facts}"):
                yield value["topic"], value["offset"], value["value"]

    def waited(self, facts: str) -> Iterator[tuple[str, int, int, bytes]]:
        """(topic, partition, offset, fact) of what the backup holds as waiting."""
        for partition in range(self.manifest.partitions):
            for topic, offset, value in self.parked(facts, partition):
                yield topic, partition, offset, value

    def known(self, states: str) -> int:
        """How many aggregates of a component there are, deleted ones too."""
        parts = range(self.manifest.partitions)
        return self.records(states) + sum(1 for p in parts for _ in self.deleted(states, p))

    def _read(self, component: str, partition: int, contract: str = "") -> Iterator[dict[str, Any]]:
        path = self.folder / f"{component}-{partition}.plain"
        with path.open("rb") as file:
            yield from read(file, path.name, contract)
