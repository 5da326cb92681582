"""What each verb answers, through the command, and whether an answer of success is true.

Compared with: the facts as they were written, counted by the proof's own rules; the rows as they
were kept, byte by byte; the bytes of objects as they were stored. Of the product only decryption is
used: what it opens is what is compared.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import fastavro

from everlode.adapters.postgres_read import current_generation
from everlode.backup.manifest import Manifest
from everlode.backup.verify import fetch
from everlode.cli.main import run as cli
from everlode.projection.tables import COMPONENTS
from everlode.topics.names import state_topic
from tests.support.damage.world import EPOCH, FENCED, Reached, World
from tests.support.facts.recounted import Written, differences
from tests.support.world.backed import TOPOLOGY

DEGRADED, HELD = 20, 3
MAX_AGE_S = "86400"
"""The region is idle while its parts are damaged one after the other."""
FINDINGS = ("drifts", "flows", "held", "unreachable", "late", "gone")


class Answer(NamedTuple):
    """Exit code and the document that was printed."""

    code: int
    document: dict[str, Any]

    @property
    def refusal(self) -> str:
        """An error, by exit code and code."""
        return f"{self.code} {self.document['error']['code']}"


def ask(world: World, *words: str, keys: bool = True) -> Answer:
    """Run the command."""
    region = world.region
    place = ["--dir", str(region.folder / "stack"), "--json"]
    place += ["--keys", str(region.keys.folder)] if keys else []
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli([*words, *place])
    text = out.getvalue()
    document = json.JSONDecoder().raw_decode(text[text.index("{") :])[0] if "{" in text else {}
    return Answer(code, document)


def _verdict(problems: list[str], named: Iterable[str] = ()) -> str:
    """`equal` only when nothing differs; else in what, and the whole of it is printed."""
    words = ", ".join(named)
    kinds = sorted({problem.partition(":")[0] for problem in problems})
    if problems:
        print("\n".join(problems))
    found = f"UNEQUAL: {', '.join(kinds)}" if problems else "equal"
    return f"{found}; 20 {words}" if words else found


# -- backup, verify --------------------------------------------------------------------------


def backup(world: World) -> str:
    """A new backup: of all facts that were applied, or an error."""
    answer = ask(world, "backup", "create", "--region", "eu", "--max-age", MAX_AGE_S)
    if answer.code not in (0, DEGRADED):
        return answer.refusal
    manifest = _stored(world, answer.document["backup_id"])
    problems = contents(world, manifest, world.reached())
    return _verdict(problems, _named(answer) if answer.code else ())


def _named(answer: Answer) -> list[str]:
    """What a backup that ended with 20 counts."""
    manifest = answer.document
    compared = manifest.get("compared") or {}
    found = [name for name in ("from_rows", "without_row", "fences_lost") if compared.get(name)]
    return [*found, *(name for name in ("short", "fewer") if manifest.get(name))] or ["age"]


def verify(world: World) -> str:
    """The latest backup, as it stands."""
    answer = ask(world, "backup", "verify", "latest", "--region", "eu")
    if answer.code:
        return answer.refusal
    backup_id = answer.document["backup_id"]
    if backup_id != world.latest.backup_id:
        return _verdict([f"latest: {backup_id} is not the latest that was made"])
    now = world.objects()
    kept = world.kept_objects
    changed = [
        f"bytes: {key} has changed"
        for key, value in kept.items()
        if key.startswith(f"eu/{backup_id}/") and now.get(key) != value
    ]
    return _verdict(changed or contents(world, world.latest, world.upto))


def _stored(world: World, backup_id: str) -> Manifest:
    data = world.region.store.get(f"eu/{backup_id}/manifest.json")
    return Manifest.model_validate_json(json.dumps(json.loads(data)["manifest"]))


def contents(world: World, manifest: Manifest, upto: Reached) -> list[str]:
    """What differs in a backup from what was written up to then: states, positions, fences."""
    region, values, twice = world.region, {}, []
    with tempfile.TemporaryDirectory() as folder:
        for entry in manifest.objects:
            if entry.component in COMPONENTS:
                with fetch(region.store, region.keys, entry, Path(folder)).open("rb") as file:
                    for value in fastavro.reader(file):
                        assert isinstance(value, dict)
                        key = entry.component, value["key"]
                        twice += [f"states: {key} is there twice"] if key in values else []
                        values[key] = value
    facts = region.written[: upto.facts]
    states = [f"states: {problem}" for problem in differences(facts, values)]
    return [*twice, *states, *_positions(manifest, upto, facts), *_fences(manifest)]


def _positions(manifest: Manifest, upto: Reached, facts: Sequence[Written]) -> list[str]:
    """Each is at the last fact or at a barrier behind it."""
    last = {(c, partition): fact.envelope.seq for c, fact, partition in facts}
    found = {(p.topic, p.partition): p.seq for p in manifest.positions}
    return [
        f"positions: eu.1.{c}/{partition} is at {found.get((f'eu.1.{c}', partition))}, not at {seq}"
        for (c, partition), seq in upto.seqs.items()
        if not last.get((c, partition), 0) <= found.get((f"eu.1.{c}", partition), -1) <= seq
    ]


def _fences(manifest: Manifest) -> list[str]:
    found = {(p, epoch) for _, p, scope, epoch in manifest.opened if scope == FENCED}
    if found == {(partition, EPOCH) for partition in range(TOPOLOGY.partitions)}:
        return []
    return [f"fences: {FENCED} is {sorted(found)}"]


# -- recover ---------------------------------------------------------------------------------


def recover(world: World, backup_id: str = "") -> str:
    """A recovery from the latest backup, or from one that is named."""
    words = ["recover", "run", "--staging", str(world.work)]
    if backup_id:
        plan = world.region.folder / "plan.yaml"
        plan.write_text(
            "plan_name: named\ndisaster_type: database-corruption\ntarget_region: eu\n"
            f"backup: {backup_id}\n"
        )
        words.insert(2, str(plan))
    answer = ask(world, *words)
    if answer.code == HELD:
        return f"3 held: {', '.join(_reasons(answer.document))}"
    if answer.code:
        return answer.refusal
    return _verdict(_recovered(world, answer.document, backup_id or world.latest.backup_id))


def _reasons(report: dict[str, Any]) -> list[str]:
    """The kinds of what was found against it."""
    reasons = [*report["reasons"], *(r for c in report["components"] for r in c["reasons"])]
    return sorted({reason.partition(":")[0] for reason in reasons})


def _recovered(world: World, report: dict[str, Any], backup_id: str) -> list[str]:
    """What differs in the generation that is current now, and in the report."""
    region = world.region
    generation = current_generation(region.conninfo)
    if generation != report["generation"]:
        return [f"generation: {generation} is current, not {report['generation']}"]
    problems = [f"report: {name} is reported as lost" for name in report["lost_event_ids"]]
    if report["backup_id"] != backup_id:
        problems.append(f"backup: it is of {report['backup_id']}")
    rows = {key: doc for key, (_, doc) in region.rows().items() if doc is not None}
    if rows != {key: doc for key, (_, doc) in world.rows.items() if doc is not None}:
        problems.append("rows: they are not those that were")
    states = {key: region.codec.decode_dict(doc)[1] for key, doc in rows.items()}
    problems += [f"states: {problem}" for problem in differences(region.written, states)]
    for component in COMPONENTS:
        newest = {raw.key: raw.value for raw in world.records(state_topic(generation, component))}
        found = {(component, (k or b"").decode()): v for k, v in newest.items() if v is not None}
        if found != {key: doc for key, doc in rows.items() if key[0] == component}:
            problems.append(f"state topic: that of {component} is not its rows")
    return problems


# -- doctor ----------------------------------------------------------------------------------


def doctor(world: World) -> str:
    """`quiet`: it names nothing."""
    answer = ask(world, "stack", "doctor", keys=False)
    if answer.code == DEGRADED:
        found = [name for name in FINDINGS if answer.document.get(name)]
        found += sorted({one["kind"] for one in answer.document["contents"]})
        return f"20 {', '.join(found)}"
    return answer.refusal if answer.code else "quiet"
