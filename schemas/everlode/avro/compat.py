"""FULL_TRANSITIVE compatibility: every schema reads, and is read by, every one before it.

The past is `schemas/everlode/events/past/<topic>.jsonl`, one book a folder of `avsc/`: each whole
schema (shared records put in) that was ever committed, a line each, in the order in which they
appeared. A book only grows at its end:

    {"type":"TaskSolved","fingerprint":"51d4…","after":"6e34…","schema":{…}}
    {"type":"TaskState", "fingerprint":"1162…","after":"51d4…","schema":{…}}

`after` is the fingerprint of the line before, so that a line taken out or moved is seen; the last
one is missed because it is today's. A schema whose text changed in place under the same fingerprint
(logicalType, default, doc: the fingerprint ignores them) is refused as well, since readers could
not tell the two apart.

Source: Apache Avro 1.12 specification, "Schema Resolution", narrowed: names must be equal, and
no promotion is taken (int to long would not go back). Pure, but for `record` and `check`, which
read and write the books.

    python -m everlode.avro.compat check     exit 1 and the reasons when something is broken
    python -m everlode.avro.compat record    add today's schemas to their books, if lawful
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from everlode.avro import schemas
from everlode.errors import ConfigError

PAST = Path(__file__).parents[1] / "events" / "past"
Schema = Any
Book = Mapping[str, Mapping[str, Schema]]
"""Type → fingerprint in hex → whole schema."""
MAX_PARTS = 10_000
"""Parts that a learnt schema may unfold to; ours have some dozens."""


def problems(reader: Schema, writer: Schema) -> list[str]:
    """Why `reader` cannot read what `writer` wrote; empty when it can. Whole schemas."""
    return list(_Pair(reader, writer).resolve(reader, writer, "", set()))


def _full_name(schema: Mapping[str, Any]) -> str:
    name = str(schema["name"])
    return name if "." in name else f"{schema.get('namespace', '')}.{name}"


def _inside(schema: Schema) -> list[Schema]:
    """The schemas that stand directly within a schema; names are not followed."""
    if isinstance(schema, list):
        return schema
    if not isinstance(schema, dict):
        return []
    inner = [field["type"] for field in schema.get("fields", ())]
    inner += [schema[key] for key in ("items", "values") if key in schema]
    return inner + ([schema["type"]] if isinstance(schema["type"], dict | list) else [])


def _complex(schema: Schema) -> Iterator[Mapping[str, Any]]:
    """Every schema that is written as an object, within a schema and itself."""
    todo = [schema]
    while todo:
        item = todo.pop()
        todo.extend(_inside(item))
        if isinstance(item, dict):
            yield item


def _named(schema: Schema) -> dict[str, Schema]:
    """Named records of a whole schema by full name."""
    kinds = ("record", "enum", "fixed")
    return {_full_name(item): item for item in _complex(schema) if item["type"] in kinds}


def _open(schema: Schema, names: dict[str, Schema]) -> tuple[str, Schema]:
    """Kind and content of a schema, names followed: ("union", branches), ("record", …), …"""
    if isinstance(schema, list):
        return "union", schema
    if isinstance(schema, str):
        return (names[schema]["type"], names[schema]) if schema in names else (schema, {})
    kind = schema["type"]
    if isinstance(kind, dict | list):
        return _open(kind, names)
    if kind in names:
        return names[kind]["type"], names[kind]
    return kind, schema


class _Pair:
    """Two whole schemas, walked side by side. `seen` has the pairs of records met on the way."""

    def __init__(self, reader: Schema, writer: Schema) -> None:
        self._reader_names, self._writer_names = _named(reader), _named(writer)

    def resolve(
        self, reader: Schema, writer: Schema, path: str, seen: set[tuple[str, str]]
    ) -> Iterator[str]:
        """What keeps this part from being read, with its path."""
        r_kind, r = _open(reader, self._reader_names)
        w_kind, w = _open(writer, self._writer_names)
        here = path or "the schema"
        if r_kind == "union" or w_kind == "union":
            yield from self._unions(reader, writer, path, seen)
        elif r_kind != w_kind:
            yield f"{here}: {w_kind} is read as {r_kind}"
        elif r_kind == "record":
            yield from self._records(r, w, path, seen)
        elif r_kind in ("array", "map"):
            key = "items" if r_kind == "array" else "values"
            yield from self.resolve(r[key], w[key], f"{path}[]", seen)
        elif r_kind == "enum":
            gone = sorted(set(w["symbols"]) - set(r["symbols"]))
            if gone and "default" not in r:
                yield f"{here}: symbols {', '.join(gone)} are not known to the reader"
        elif r_kind == "fixed" and r["size"] != w["size"]:
            yield f"{here}: {w['size']} bytes are read as {r['size']}"
        elif r.get("logicalType") != w.get("logicalType"):
            yield f"{here}: logicalType {w.get('logicalType')} is read as {r.get('logicalType')}"

    def _unions(
        self, reader: Schema, writer: Schema, path: str, seen: set[tuple[str, str]]
    ) -> Iterator[str]:
        """Every branch that may have been written must fit a branch of the reader."""
        for w in writer if isinstance(writer, list) else [writer]:
            tries = [
                list(self.resolve(r, w, path, set(seen)))
                for r in (reader if isinstance(reader, list) else [reader])
            ]
            if all(tries):
                kind, _ = _open(w, self._writer_names)
                yield from (
                    min(tries, key=len)
                    if len(tries) == 1
                    else [f"{path or 'the schema'}: the branch {kind} fits none of the reader's"]
                )

    def _records(
        self, reader: Schema, writer: Schema, path: str, seen: set[tuple[str, str]]
    ) -> Iterator[str]:
        names = (_full_name(reader), _full_name(writer))
        if names[0] != names[1]:
            yield f"{path or 'the schema'}: {names[1]} is read as {names[0]}"
            return
        if names in seen:
            return
        seen.add(names)
        written = {field["name"]: field for field in writer["fields"]}
        for field in reader["fields"]:
            where = f"{path}.{field['name']}".lstrip(".")
            old = written.get(field["name"])
            if old is not None:
                yield from self.resolve(field["type"], old["type"], where, seen)
            elif "default" not in field:
                yield f"{where}: has no default and is not written"


def endless(schema: Schema) -> list[str]:
    """What would let a few hostile bytes be read for ever, or nearly; empty when nothing would.

    Records within themselves, arrays whose items take no bytes, schemas that unfold hugely.
    """
    names = _named(schema)
    lines = [f"{name}: contains itself" for name in names if _reaches(name, names)]
    if not lines and (parts := _parts(schema, names, {})) > MAX_PARTS:
        lines = [f"it unfolds to {parts} parts; at most {MAX_PARTS} are allowed"]
    if lines:
        return lines
    arrays = (item["items"] for item in _complex(schema) if item["type"] == "array")
    return ["an array's items take no bytes" for items in arrays if _may_be_empty(items, names)]


def _parts(schema: Schema, names: dict[str, Schema], known: dict[str, int]) -> int:
    """Parts of a schema with every name put in. Only for schemas without self-reference."""
    if isinstance(schema, list):
        return sum(_parts(branch, names, known) for branch in schema)
    kind, content = _open(schema, names)
    if kind == "record":
        name = _full_name(content)
        if name not in known:
            fields = content["fields"]
            known[name] = 1 + sum(_parts(field["type"], names, known) for field in fields)
        return known[name]
    if kind in ("array", "map"):
        return 1 + _parts(content["items" if kind == "array" else "values"], names, known)
    return 1


def _children(schema: Schema, names: dict[str, Schema]) -> Iterator[str]:
    """Names that a record's content refers to, themselves not looked into."""
    todo = [field["type"] for field in schema.get("fields", ())]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            yield from [item] if item in names else []
        elif isinstance(item, dict) and "name" in item:
            yield _full_name(item)
        else:
            todo.extend(_inside(item))
            if isinstance(item, dict) and isinstance(item["type"], str):
                todo.append(item["type"])


def _reaches(name: str, names: dict[str, Schema]) -> bool:
    """True when a record contains itself, directly or not."""
    found: set[str] = set()
    todo = list(_children(names[name], names))
    while todo:
        child = todo.pop()
        if child == name:
            return True
        if child not in found and child in names:
            found.add(child)
            todo.extend(_children(names[child], names))
    return False


def _may_be_empty(schema: Schema, names: dict[str, Schema]) -> bool:
    """True when a value may take no bytes. Only for schemas without self-reference."""
    kind, content = _open(schema, names)
    if kind == "record":
        return all(_may_be_empty(field["type"], names) for field in content["fields"])
    return bool(kind == "null" or (kind == "fixed" and content["size"] == 0))


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
