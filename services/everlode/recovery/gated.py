"""The components of a recovery in their order, each behind its gate.

A gate only reads, and only what is restored and replayed of its own component and of those before
it: so it is asked while the next component is replayed.

    lanes   restore all ...   replay miners    replay tasks     replay validations ...
    here                                       gate of miners   gate of tasks

Each step is in the journal before the one that depends on it begins. Shell.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Any, NamedTuple

from everlode.adapters.postgres_next import NextGeneration
from everlode.events.services import STATES_OF
from everlode.events.types import AIComponent
from everlode.projection.tables import FACTS_OF
from everlode.recovery import planner
from everlode.recovery.gates import AtTheCut, Built, Gate, Gates, dangling
from everlode.recovery.planner import ComponentResult, Replayed
from everlode.recovery.request import RecoveryRequest
from everlode.recovery.stages import Replaying, Restored, Stages
from everlode.telemetry.entries import StepEnded


class _Begun(NamedTuple):
    """A component whose states are there, and its replay: under way, or what it came to."""

    restored: Restored
    replaying: Replaying | Replayed


class _Ready(NamedTuple):
    """A component before its gate; without what was done: it has passed."""

    component: AIComponent
    done: tuple[Restored, Replayed] | None


class Gated:
    """The stages of one recovery; `close` it."""

    def __init__(
        self,
        request: RecoveryRequest,
        work: Stages,
        db: NextGeneration,
        accepted: Collection[str],
    ) -> None:
        """`db`: the generation that is worked on, for this thread; `accepted`: kinds of findings.

        Who gives these closes them.
        """
        self._request, self._work, self._db, self._accepted = request, work, db, accepted
        grounds = self._grounds = work.grounds
        self._journal, self._report = grounds.journal, grounds.report
        manifest, target = grounds.manifest, grounds.target
        self._cut_stamp = manifest.cut_stamp
        self._asked: dict[str, Gate] = {}
        """State component → what its gate said, asked before its turn."""
        self._gates = Gates(
            Built(
                target.conninfo, target.bootstrap, db.generation, manifest.partitions,
                manifest.cut_stamp,
            )
        )  # fmt: skip

    def close(self) -> None:
        """Leave."""
        self._gates.close()

    def results(self, ended: Callable[[ComponentResult], None]) -> list[ComponentResult]:
        """Of all components, each given to `ended` as well; one that has passed is not asked again.

        Raises: IntegrityError; Unavailable; FencedOut.
        """
        self._work.restore(states for states in self._names() if not self._is_restored(states))
        found = list[ComponentResult]()
        before: _Ready | None = None
        for component in (*planner.PRIORITIES, None):
            begun = self._begin(component) if component else None
            if before is not None:
                found.append(self._passed(before))
                ended(found[-1])
            if component:
                self._ask_ahead(component)
                before = _Ready(component, self._replayed(component, begun))
        return found

    def _names(self) -> list[str]:
        """State components of the stages that have not passed, in their order."""
        stages = (STATES_OF[c] for c in planner.PRIORITIES if not self._has_passed(c))
        return list(dict.fromkeys(name for states in stages for name in _with_others(states)))

    def _has_passed(self, component: AIComponent) -> bool:
        return f"stage-{component}" in self._journal.done

    def _is_restored(self, states: str) -> bool:
        return f"restored-{states}" in self._journal.done

    def _begin(self, component: AIComponent) -> _Begun | None:
        """Wait for its states, and begin its replay; None: it has passed."""
        self._noted(f"began-{component}")
        if self._has_passed(component):
            return None
        states, *others = _with_others(STATES_OF[component])
        restored = self._restored(states)
        for other in others:
            self._restored(other)  # its facts are among those that are replayed now
        if states in FACTS_OF:
            return _Begun(restored, Replayed())
        done = self._journal.done.get(f"replayed-{states}")
        if done is not None and f"failed-{component}" not in self._journal.done:
            return _Begun(restored, Replayed.remembered(done))
        return _Begun(restored, self._work.replay(states, restored.forks))

    def _replayed(
        self, component: AIComponent, begun: _Begun | None
    ) -> tuple[Restored, Replayed] | None:
        if begun is None:
            return None
        tail = begun.replaying
        if isinstance(tail, Replaying):
            tail, states = self._work.replayed(tail, self._db), STATES_OF[component]
            self._journal.note(f"replayed-{states}", **asdict(tail))
            self._report(StepEnded("replay", states, f"{tail.folded} facts"))
        return begun.restored, tail

    def _passed(self, ready: _Ready) -> ComponentResult:
        """Its result; the gate is asked if it has not passed."""
        component = ready.component
        if ready.done is None:
            found = planner.remembered(self._journal.done[f"stage-{component}"])
            return planner.accepting(found, self._accepted)
        restored, tail = ready.done
        states = STATES_OF[component]
        gate = self._asked.pop(states, None) or self._ask(states, restored)
        found = planner.judged(self._request, component, restored.records, tail, gate.findings)
        began = self._journal.done[f"began-{component}"]
        found = found._replace(
            waiting=gate.waits.named, waiting_count=gate.waits.total,
            recovery_time_ms=time.time_ns() // 1_000_000 - int(began["at_ms"]),
        )  # fmt: skip
        result = planner.accepting(found, self._accepted)
        if result.success:  # what was found, whoever accepts it
            self._journal.note(f"stage-{component}", **found._asdict())
        else:  # it is replayed again by who goes on
            self._journal.note(f"failed-{component}")
        verdict = "passed" if result.success else f"failed: {'; '.join(result.reasons)}"
        self._report(
            StepEnded(
                "gate", component,
                f"{result.records_restored} restored, {result.events_replayed} replayed in"
                f" {result.recovery_time_ms} ms; {verdict}",
            )
        )  # fmt: skip
        return result

    def _ask_ahead(self, component: AIComponent) -> None:
        """Of those behind it that have no replay of their own: what they look at is there."""
        for later in planner.PRIORITIES[planner.PRIORITIES.index(component) + 1 :]:
            states = STATES_OF[later]
            if states not in FACTS_OF or states in self._asked or self._has_passed(later):
                continue
            if f"replayed-{FACTS_OF[states]}" in self._journal.done:
                self._asked[states] = self._ask(states, self._restored(states))

    def _ask(self, states: str, restored: Restored) -> Gate:
        waited = self._grounds.staged.waited(states)
        known = self._grounds.staged.known(states) - self._db.left_out(states)
        cut = AtTheCut(known, restored.dangling, waited)
        return self._gates.component(states, self._grounds.codec, cut)

    def _noted(self, step: str) -> dict[str, Any]:
        """The journal's entry of a step, or a new one."""
        return self._journal.done.get(step) or self._journal.note(step)

    def _restored(self, states: str) -> Restored:
        """Order (must): what dangles is counted between the replays before and its own."""
        step = f"restored-{states}"
        done = self._journal.done.get(step)
        if done is None:
            found = self._work.restored(states)
            found = found._replace(dangling=dangling(self._db, states, self._cut_stamp))
            done = self._journal.note(step, **found._asdict())
            self._report(StepEnded("restore", states, f"{found.records} records"))
        forks = [(topic, partition) for topic, partition in done["forks"]]
        return Restored(int(done["records"]), forks, int(done["dangling"]))


def _with_others(states: str) -> list[str]:
    """A state component, and those whose facts are on its topics."""
    return [states, *(other for other, facts in FACTS_OF.items() if facts == states)]
