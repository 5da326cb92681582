"""The contract as an AsyncAPI 3 document, for tools: a channel a topic, a message a type.

Made from the two catalogues. An application of it is the network as a whole: it receives commands
and heartbeats, and sends the rest. Names of regions, origins, generations and consumers are
parameters of the addresses; how many partitions a topic has is each network's own.
Source: AsyncAPI 3.0.0, its Kafka bindings 0.5.0. Pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from everlode.avro import schemas
from everlode.events.catalogue import (
    COMMANDS,
    EVENTS,
    FACT_COMPONENTS,
    REPLIES,
    SIGNALS,
    SNAPSHOTS,
    STATES,
)
from everlode.topics.catalogue import TopicSpec, catalogue
from everlode.topics.names import CONTROL_CLUSTER, CONTROL_SNAPSHOT_TOPIC, CONTROL_TOPIC
from everlode.topics.topology import Topology

AVRO = "application/vnd.apache.avro+json;version=1.9.0"
BINDING = "0.5.0"
_MODEL = Topology(regions=("region",))
"""A network of one region, whose topics stand for those of all."""
_DEAD_LETTER = "DeadLetter"
_ARCHIVED = frozenset({"SnapshotEntry", "ArchivedSolution"})
"""What an archive holds; the other records are the snapshots', which hold entries too."""
_ELSEWHERE = frozenset({"ArchivedSolution", "AssignedTask"})
"""What no snapshot holds."""
_PARAMETERS = {
    "region": ("Region.", "eu"),
    "origin": ("Region and its incarnation.", "eu.1"),
    "generation": ("Number of a complete build of the projection, from 1.", "1"),
    "consumer": ("Who could not take the record.", "projector"),
    "topic": ("Topic that the record is of.", "eu.1.tasks"),
}
_PARAMETER = re.compile(r"\{(\w+)\}")
Object = dict[str, Any]


class _Kind(NamedTuple):
    """A kind of topic."""

    matches: Callable[[str, str], bool]
    """(address, its last part) → whether an address is of it."""
    summary: str
    messages: Callable[[str], tuple[str, ...]]
    """Last part of the address → names of what goes there."""
    actions: tuple[str, ...] = ("send",)


def _facts(component: str) -> tuple[str, ...]:
    return tuple(name for name, kind in EVENTS.items() if kind.topic in (component, "*"))


_KINDS = (
    _Kind(
        lambda address, _: address == CONTROL_TOPIC,
        "Decisions on who leads, in which epoch, until when.",
        lambda _: tuple(name for name, kind in EVENTS.items() if kind.topic == CONTROL_TOPIC),
    ),
    _Kind(
        lambda address, _: address == CONTROL_SNAPSHOT_TOPIC,
        "The fold of the control log, by which a process begins.",
        lambda _: ("ControlSnapshot",),
    ),
    _Kind(
        lambda address, _: address.startswith("dlt."),
        "Records that a consumer could not take, as they were, and where they come from.",
        lambda _: (_DEAD_LETTER,),
    ),
    _Kind(
        lambda address, _: address.startswith("state."),
        "The newest state of each aggregate, compacted.",
        lambda part: (STATES[part].__name__,),
    ),
    _Kind(
        lambda address, _: address.startswith("snapshot."),
        "What is known of a fact topic without its beginning, compacted.",
        lambda _: tuple(name for name in SNAPSHOTS if name not in _ELSEWHERE),
    ),
    _Kind(
        lambda address, _: address.startswith("archive."),
        "Aggregates that have ended, compacted.",
        lambda _: tuple(name for name in SNAPSHOTS if name in _ARCHIVED),
    ),
    _Kind(
        lambda address, _: address.startswith("work."),
        "Tasks that miners have now, in the partition of their miner, compacted.",
        lambda _: ("AssignedTask",),
    ),
    _Kind(
        lambda address, _: ".commands." in address,
        "Requests, each carried out once by its id; anybody with the right may send them.",
        lambda part: tuple(name for name, cls in COMMANDS.items() if cls.component == part),
        ("receive",),
    ),
    _Kind(
        lambda _, part: part == "replies", "Answers to commands.", lambda _: tuple(REPLIES)
    ),
    _Kind(
        lambda _, part: part in FACT_COMPONENTS,
        "Facts: only the primary of that component in that region writes them.",
        _facts,
    ),
    _Kind(
        lambda _, part: part == "heartbeats",
        "Signs of life, of nodes and miners.",
        _facts,
        ("send", "receive"),
    ),
    _Kind(lambda _, part: part in SIGNALS, "Signals of the network's own processes.", _facts),
)  # fmt: skip


def address_of(name: str) -> str:
    """The address of a topic of the model network: region.1.tasks → {origin}.tasks."""
    if name.startswith("dlt."):
        return "dlt.{consumer}.{topic}"
    generic = name.replace("region.1", "{origin}").replace("region", "{region}")
    return re.sub(r"^state\.g\d+", "state.g{generation}", generic)


def document() -> Object:
    """The whole document, as JSON has it."""
    topics = {address_of(spec.name): spec for spec in catalogue(_MODEL)}
    channels = {_id(address): _channel(address, spec) for address, spec in sorted(topics.items())}
    messages = {name: _message(name) for name in sorted({*_known(), *_OTHERS})}
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Everlode",
            "version": "1",
            "description": "Topics and records of an AI-mining network that Everlode keeps alive. "
            "A record begins with C3 01 and eight bytes that stand for its schema: take them from "
            "docs/fingerprints.md; the rest is in docs/format.md. "
            "Schemas change compatibly in both directions.",
        },
        "defaultContentType": "application/avro",
        "servers": {
            "region": _server("A region's cluster."),
            CONTROL_CLUSTER: _server("The control cluster."),
        },
        "channels": channels,
        "operations": dict(_operations(topics)),
        "components": {
            "messages": messages,
            "messageTraits": _traits(),
            "parameters": {
                name: {"description": what, "examples": [example]}
                for name, (what, example) in _PARAMETERS.items()
            },
        },
    }


def text() -> str:
    """The document as it is committed: JSON, one channel, operation or message a line."""
    found = document()
    lines = []
    for name, value in found.items():
        deep = name in ("channels", "operations", "components")
        lines.append(f" {json.dumps(name)}: {_lines(value, name) if deep else json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _lines(value: Object, name: str) -> str:
    inner = (
        f"{json.dumps(key)}: {_lines(item, '') if name == 'components' else json.dumps(item)}"
        for key, item in value.items()
    )
    return "{\n  " + ",\n  ".join(inner) + "\n }"


def _id(address: str) -> str:
    """A channel's name: its address without what only Kafka wants in it."""
    return re.sub(r"\W+", "_", address).strip("_")


def _kind(address: str) -> tuple[_Kind, str]:
    part = address.rpartition(".")[2]
    return next(kind for kind in _KINDS if kind.matches(address, part)), part


def _known() -> Iterator[str]:
    yield from (*EVENTS, *COMMANDS, *REPLIES, *SNAPSHOTS)
    yield from (cls.__name__ for cls in STATES.values())


def _server(what: str) -> Object:
    return {
        "host": "{bootstrap}", "protocol": "kafka", "description": what,
        "variables": {"bootstrap": {"description": "host:port of its brokers."}},
    }  # fmt: skip


def _channel(address: str, spec: TopicSpec) -> Object:
    kind, part = _kind(address)
    server = CONTROL_CLUSTER if spec.cluster == CONTROL_CLUSTER else "region"
    found: Object = {
        "address": address,
        "summary": kind.summary,
        "servers": [{"$ref": f"#/servers/{server}"}],
        "messages": {n: {"$ref": f"#/components/messages/{n}"} for n in kind.messages(part)},
        "bindings": {
            "kafka": {
                "topicConfiguration": {"cleanup.policy": [spec.cleanup]},
                "bindingVersion": BINDING,
            }
        },
    }
    names = _PARAMETER.findall(address)
    if names:
        found["parameters"] = {n: {"$ref": f"#/components/parameters/{n}"} for n in names}
    return found


def _operations(topics: dict[str, TopicSpec]) -> Iterator[tuple[str, Object]]:
    for address in sorted(topics):
        kind, _ = _kind(address)
        for action in kind.actions:
            channel = _id(address)
            operation: Object = {
                "action": action,
                "channel": {"$ref": f"#/channels/{channel}"},
                "summary": kind.summary,
            }
            if ".commands." in address:
                operation["reply"] = {"channel": {"$ref": "#/channels/region_replies"}}
            yield f"{action}_{channel}", operation


def _message(name: str) -> Object:
    if name in _OTHERS:
        return _OTHERS[name]
    schema = schemas.raw(name)
    trait = "event" if name in EVENTS else "command" if name in COMMANDS else "record"
    return {
        "name": f"everlode.{name}",
        "title": name,
        "summary": schema["doc"],
        "payload": {"schemaFormat": AVRO, "schema": schema},
        "traits": [{"$ref": f"#/components/messageTraits/{trait}"}],
    }


def _headers(more: dict[str, str]) -> Object:
    """CloudEvents 1.0, binary mode."""
    texts = {
        "ce_specversion": "1.0.", "ce_type": "everlode. and the message's title.",
        "ce_time": "When it happened, or was asked for: RFC 3339.", **more,
    }  # fmt: skip
    traced = {"traceparent": "W3C Trace Context of its sender, where it is traced."}
    return {
        "type": "object",
        "required": list(texts),
        "properties": {
            name: {"type": "string", "description": what} for name, what in (texts | traced).items()
        },
    }


def _traits() -> Object:
    key = {"type": "string", "description": "Id of the aggregate, UTF-8; of signals their writer."}
    bindings = {"kafka": {"key": key, "bindingVersion": BINDING}}
    about = {"ce_subject": "Id of the aggregate."}
    event = {"ce_id": "Id of the event; the same one again is a repeat.", **about}
    command = {"ce_id": "Id of the command, its idempotency key.", **about}
    event["ce_source"] = "/origin/scope, percent-encoded."
    command["ce_source"] = "/sender, percent-encoded."
    command["ce_replyto"] = "To whom the answer goes."
    where = {"event": "envelope", "command": "header"}
    return {
        "record": {"bindings": bindings},
        **{
            name: {
                "headers": _headers(headers),
                "correlationId": {"location": f"$message.payload#/{where[name]}/correlation_id"},
                "bindings": bindings,
            }
            for name, headers in (("event", event), ("command", command))
        },
    }


_LETTER = {
    "dlt-consumer": "Who could not take the record.", "dlt-topic": "Topic of the record.",
    "dlt-partition": "Its partition.", "dlt-offset": "Its offset.",
    "dlt-code": "Why, for programs.", "dlt-message": "Why, for people.",
}  # fmt: skip
_OTHERS: dict[str, Object] = {
    _DEAD_LETTER: {
        "name": _DEAD_LETTER,
        "title": _DEAD_LETTER,
        "summary": "A record as it was, key, value and headers, with headers that say of it.",
        "contentType": "application/octet-stream",
        "headers": {
            "type": "object",
            "required": list(_LETTER),
            "properties": {n: {"type": "string", "description": w} for n, w in _LETTER.items()},
        },
        "payload": {"type": "string", "format": "binary"},
    },
    "ControlSnapshot": {
        "name": "ControlSnapshot",
        "title": "ControlSnapshot",
        "summary": "The fold of the control log at an offset; of this build, no contract.",
        "contentType": "application/json",
        "payload": {"type": "object"},
    },
}
"""Messages that have no Avro schema."""
