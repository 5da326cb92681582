"""The parts of the reference that follow from the code, as Markdown: made while the site builds.

Nothing of it is committed, so nothing of it can be out of date. Each function is one part; the same
code makes the same text.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import typer
from typer._click.core import Command, Context, Parameter
from typer.core import TyperGroup

from everlode.api import metrics as _metrics
from everlode.api.app import application
from everlode.avro import schemas as _schemas
from everlode.cli.main import app
from everlode.settings.environment import PREFIX, Settings
from everlode.telemetry import figures as _figures
from everlode.topics import Topology
from everlode.topics.catalogue import TopicSpec, catalogue
from everlode.topics.names import CONTROL_CLUSTER

DAY_MS = 86_400_000
FAMILIES = {
    "CounterMetricFamily": "counter", "GaugeMetricFamily": "gauge",
    "Counter": "counter", "Histogram": "histogram",
}  # fmt: skip
"""What makes a metric → its kind."""


def _cell(text: object) -> str:
    """A text as it may stand in a table: one line, no column of its own, no markup by accident."""
    one = " ".join(str(text).split())
    return one.replace("|", "\\|").replace("<", "\\<").replace("*", "\\*").replace("[", "\\[")


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def _code(text: str) -> str:
    return "`" + text.replace("|", "\\|") + "`"


# -- the command


def commands() -> Iterator[tuple[str, Command]]:
    """(words, command) of every verb, in the order of the help."""
    yield from _leaves(typer.main.get_command(app), ())


def _leaves(command: Command, path: tuple[str, ...]) -> Iterator[tuple[str, Command]]:
    if not isinstance(command, TyperGroup):
        yield " ".join(path), command
        return
    with typer.Context(command) as context:
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield from _leaves(found, (*path, name))


def _options(command: Command, context: Context) -> Iterator[tuple[str, str]]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None or "--help" in parameter.opts:
            continue
        yield _code(_shown(parameter, record[0])), _cell(record[1])


def _shown(parameter: Parameter, record: str) -> str:
    return " ".join(record.split()) if parameter.opts[0].startswith("-") else record.strip()


def cli() -> str:
    """Every verb: usage, what it does, its arguments and options."""
    parts = []
    for words, command in commands():
        with typer.Context(command, info_name=f"everlode {words}") as context:
            usage = " ".join(command.collect_usage_pieces(context))
            text = "\n".join(filter(None, (command.help, command.epilog)))
            parts += [
                f"## everlode {words}\n",
                f"    everlode {words} {usage}\n",
                _prose(text),
                _table(("option", "meaning"), _options(command, context)),
            ]
    return "\n".join(parts)


def _prose(text: str) -> str:
    """A docstring, its example as code."""
    said, _, example = re.sub(r"[ \t]+", " ", text.strip()).partition("Example: ")
    shown = f"\n    {' '.join(example.split())}\n" if example else ""
    paragraphs = (_cell(part) for part in re.split(r"\n\s*\n", said) if part.strip())
    return "\n\n".join(paragraphs) + "\n" + shown


# -- the HTTP API


def api() -> str:
    """Every operation of the OpenAPI document that the server itself gives."""
    described = application(None, None).openapi()  # type: ignore[arg-type]
    rows = []
    for path, operations in sorted(described["paths"].items()):
        for method, one in operations.items():
            asked = [_parameter(p) for p in one.get("parameters", ())]
            codes = sorted(code for code in one["responses"] if code not in ("401", "403", "421"))
            rows.append((
                _code(f"{method.upper()} {path}"), _cell(one.get("description", "")),
                " ".join(asked), " ".join(codes),
            ))  # fmt: skip
    head = ("operation", "what it does", "parameters", "answers")
    return _table(head, rows)


def _parameter(one: dict[str, Any]) -> str:
    where = {"query": "?", "header": "header ", "path": ""}[one["in"]]
    return _code(f"{where}{one['name']}")


# -- topics


def topics() -> str:
    """All topics of a region's cluster, of three regions, and of the control cluster."""
    topology = Topology()
    home = topology.regions[0]
    specs = [
        spec for spec in catalogue(topology)
        if spec.cluster in (home, CONTROL_CLUSTER) and not spec.owner.startswith("mirror from")
    ]  # fmt: skip
    copied = sum(spec.owner.startswith("mirror from") for spec in catalogue(topology)
                 if spec.cluster == home)  # fmt: skip
    head = ("topic", "cluster", "partitions", "kept", "written by", "copied to the other regions")
    return (
        _table(head, map(_topic, specs))
        + f"\nBesides, {home} has {copied} copies of other regions' topics, by the same names.\n"
    )


def _topic(spec: TopicSpec) -> tuple[str, ...]:
    kept = "compacted" if spec.cleanup == "compact" else (
        "for ever" if spec.retention_ms < 0 else f"{spec.retention_ms // DAY_MS} days"
    )  # fmt: skip
    copied = "yes" if spec.mirrored else "no"
    return _code(spec.name), spec.cluster, str(spec.partitions), kept, spec.owner, copied


# -- schemas


def schemas() -> str:
    """Every record that there is, with its fields."""
    parts = []
    for entry in _schemas.published():
        if not entry["current"]:
            continue
        source = _schemas.source(entry["type"])
        rows = [
            (_code(f["name"]), _code(_type(f["type"])), _cell(f.get("doc", "")))
            for f in source["fields"]
        ]
        parts += [
            f"## {entry['type']}\n",
            f"{_cell(source.get('doc', ''))} Of `{entry['topic']}`, `{entry['fingerprint']}`.\n",
            _table(("field", "type", "meaning"), rows) if rows else "It has no fields.\n",
        ]
    return "\n".join(parts)


def _type(schema: Any) -> str:
    """An Avro type in few words: `array of string`, `null or long`, `timestamp-millis`."""
    if isinstance(schema, str):
        return schema.removeprefix("everlode.events.")
    if isinstance(schema, list):
        return " or ".join(map(_type, schema))
    kind = schema["type"]
    if kind in ("array", "map"):
        return f"{kind} of {_type(schema['items' if kind == 'array' else 'values'])}"
    return str(schema.get("logicalType") or schema.get("name") or _type(kind))


# -- settings


def settings() -> str:
    """Every setting: its variable, form, default and meaning."""
    rows = []
    for name, field in Settings.model_fields.items():
        form = Settings.model_json_schema()["properties"][name]
        default = "–" if field.default is None else _code(str(field.default))
        rows.append((
            _code(PREFIX + name.upper()), _cell(_form(form)), default, _cell(field.description),
        ))  # fmt: skip
    return _table(("variable", "form", "default", "meaning"), rows)


def _form(schema: dict[str, Any]) -> str:
    """A JSON schema in few words."""
    if "anyOf" in schema:
        return " or ".join(_form(one) for one in schema["anyOf"] if one.get("type") != "null")
    if "enum" in schema:
        return ", ".join(map(json.dumps, schema["enum"]))
    least = f" from {schema['minimum']}" if "minimum" in schema else ""
    return str(schema.get("format", schema.get("type", "text"))) + least


# -- metrics


def figures(*modules: ModuleType) -> list[tuple[str, str, tuple[str, ...], str]]:
    """(name, kind, labels, meaning) of every metric, read out of the modules that make them.

    Without modules: of all.
    """
    found = []
    for module in modules or (_metrics, _figures):
        body = ast.parse(Path(str(module.__file__)).read_text()).body
        parts = [
            p for node in body for p in (node.body if isinstance(node, ast.ClassDef) else [node])
        ]
        found += [row for part in parts for row in _families(part)]
    return sorted(found)


def metrics() -> str:
    """Every metric of a network."""
    return _metric_table(_metrics)


def processes() -> str:
    """Every metric of a process."""
    return _metric_table(_figures)


def _metric_table(module: ModuleType) -> str:
    rows = (
        (_code(name), kind, ", ".join(map(_code, labels)), _cell(meaning))
        for name, kind, labels, meaning in figures(module)
    )
    return _table(("metric", "kind", "labels", "meaning"), rows)


def _families(part: ast.AST) -> Iterator[tuple[str, str, tuple[str, ...], str]]:
    """Of a function, or of an assignment: `labels=` may name what the function assigned."""
    assigned = (node for node in ast.walk(part) if isinstance(node, ast.Assign))
    named = {ast.unparse(node.targets[0]): node.value for node in assigned}
    for node in ast.walk(part):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
            continue
        kind = FAMILIES.get(node.func.id)
        if kind is None or len(node.args) < len(("name", "meaning")):
            continue  # another Counter
        name, meaning = (ast.literal_eval(argument) for argument in node.args)
        given = (k.value for k in node.keywords if k.arg in ("labels", "labelnames"))
        labels = next(given, ast.Tuple([], ast.Load()))
        labels = named.get(ast.unparse(labels), labels)
        total = "_total" if kind == "counter" else ""
        yield name + total, kind, tuple(ast.literal_eval(labels)), meaning


PARTS: dict[str, Callable[[], str]] = {
    "cli": cli, "api": api, "topics": topics, "schemas": schemas, "settings": settings,
    "metrics": metrics, "processes": processes,
}  # fmt: skip
"""Name of a part → what makes it."""
