"""What one schema can read of what another wrote, and what no schema may ask of a reader.

Source: Apache Avro 1.12 specification, "Schema Resolution", narrowed: names must be equal, and
no promotion is taken (int to long would not go back). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Any
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
