"""FULL_TRANSITIVE compatibility: every schema reads, and is read by, every one before it.

The past is `schemas/everlode/events/past/<topic>.jsonl`, one book a folder of `avsc/`: each whole
schema (shared records put in) that was ever committed, a line each, in the order in which they
appeared. A book only grows at its end:

    {"type":"TaskSolved",   "fingerprint":"51d4…","after":"6e34…","schema":{…}}
    {"type":"TaskSubmitted","fingerprint":"0b06…","after":"51d4…","schema":{…}}

`after` is the fingerprint of the line before, so that a line taken out or moved is seen; the last
one is missed because it is today's. A schema whose text changed in place under the same fingerprint
(logicalType, default, doc: the fingerprint ignores them) is refused as well, since readers could
not tell the two apart.

Pure, but for `record` and `check`, which read and write the books.

    python -m everlode.avro.compat check     exit 1 and the reasons when something is broken
    python -m everlode.avro.compat record    add today's schemas to their books, if lawful
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from everlode.avro import schemas
from everlode.avro.resolution import Schema, problems
from everlode.errors import ConfigError

PAST = Path(__file__).parents[1] / "events" / "past"
Book = Mapping[str, Mapping[str, Schema]]
"""Type → fingerprint in hex → whole schema."""


def full_problems(new: Schema, old: Schema) -> list[str]:
    """Why two schemas of a type do not read each other; empty when they do."""
    if schemas.fingerprint_of(new) == schemas.fingerprint_of(old) and new != old:
        return ["changed in place: the fingerprint is the same, the text is not"]
    forth = [f"new reads old: {text}" for text in problems(new, old)]
    return forth + [f"old reads new: {text}" for text in problems(old, new)]


def load_past(folder: Path = PAST) -> dict[str, dict[str, Schema]]:
    """All past schemas, of all books, as a `Book`; those of a type in order of appearance.

    Raises:
        ConfigError: a line is no schema, does not fit its content, stands twice or not in its turn.
    """
    found: dict[str, dict[str, Schema]] = {}
    for path in sorted(folder.glob("*.jsonl")):
        before = ""
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            name, fingerprint, schema = _line(line, before, f"{path}:{number}")
            if fingerprint in found.setdefault(name, {}):
                raise ConfigError(f"{path}:{number}: {name}.{fingerprint} stands twice", hint=_HINT)
            found[name][fingerprint] = schema
            before = fingerprint
    return found


_HINT = "the past is never edited; restore the file from git"


def _line(line: str, before: str, where: str) -> tuple[str, str, Schema]:
    """Type, fingerprint and schema of a line that follows the fingerprint `before`."""
    try:
        item = json.loads(line)
        name, mark, after, schema = (item[k] for k in ("type", "fingerprint", "after", "schema"))
        actual = schemas.fingerprint_of(schema).hex()
    except Exception as error:
        raise ConfigError(f"{where}: not an Avro schema: {error}", hint=_HINT) from error
    if actual != mark or schema.get("name") != name:
        text = f"{where}: its content is {schema.get('name')}.{actual}"
        raise ConfigError(text, hint=_HINT)
    if after != before:
        raise ConfigError(
            f"{where}: follows {before or 'nothing'}, not {after or 'nothing'}", hint=_HINT
        )
    return name, mark, schema


def broken(current: Mapping[str, Schema], past: Book) -> list[str]:
    """Everything that is wrong, one line each, sorted; types are never removed."""
    lines = [f"{name}: was removed" for name in past if name not in current]
    for name, new in current.items():
        for fingerprint, old in past.get(name, {}).items():
            lines += [f"{name} ({fingerprint}): {text}" for text in full_problems(new, old)]
    return sorted(lines)


def unrecorded(current: Mapping[str, Schema], past: Book) -> list[str]:
    """Types whose present schema is in no book yet, sorted."""
    return sorted(
        name
        for name, schema in current.items()
        if schemas.fingerprint_of(schema).hex() not in past.get(name, {})
    )


def todays() -> dict[str, Schema]:
    """Whole schemas of the contract by type."""
    return {name: schemas.raw(name) for name in schemas.names()}


def record(folder: Path = PAST) -> list[str]:
    """Append today's schemas to their books; names of those added. Idempotent.

    Raises:
        ConfigError: a schema is incompatible with the past; nothing is written.
    """
    current, past = todays(), load_past(folder)
    wrong = broken(current, past)
    if wrong:
        raise ConfigError(
            f"incompatible: {'; '.join(wrong)}",
            hint="add a field with a default, or a new event type",
        )
    folder.mkdir(exist_ok=True)
    added = unrecorded(current, past)
    for name in added:
        _append(folder / f"{schemas.folder(name)}.jsonl", name, current[name])
    return added


def _append(book: Path, name: str, schema: Schema) -> None:
    lines = book.read_text("utf-8").splitlines() if book.exists() else []
    item = {
        "type": name,
        "fingerprint": schemas.fingerprint_of(schema).hex(),
        "after": json.loads(lines[-1])["fingerprint"] if lines else "",
        "schema": schema,
    }
    with book.open("a", encoding="utf-8") as file:
        file.write(json.dumps(item, ensure_ascii=False, separators=(",", ":")) + "\n")


def main(arguments: list[str]) -> int:
    """The command: `check` or `record`."""
    if arguments == ["record"]:
        try:
            added = record()
        except ConfigError as error:
            sys.stderr.write(f"{error.message}\n")
            return 1
        sys.stdout.write(f"{len(added)} recorded\n")
        return 0
    if arguments == ["check"]:
        current, past = todays(), load_past()
        lines = broken(current, past)
        lines += [f"{name}: not recorded" for name in unrecorded(current, past)]
        sys.stdout.write("".join(f"{line}\n" for line in lines))
        return 1 if lines else 0
    sys.stderr.write("usage: python -m everlode.avro.compat record|check\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
