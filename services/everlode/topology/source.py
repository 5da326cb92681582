"""A YAML text as plain data, with the line of every key and value.

PyYAML's own nodes have the lines; its loader does not, and takes the last of two equal keys in
silence. Anchors, aliases and merge keys (`<<`) are YAML's. Pure.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import yaml

Where = tuple[str, ...]
"""Keys and indexes from the document down, e.g. (clusters, eu, task-manager, nodes)."""
MOST_NODES = 20_000
"""Aliases of aliases can make a short text endless."""


class Finding(NamedTuple):
    """Something that is wrong with a file."""

    line: int
    """From 1."""
    rule: str
    """Its short name; docs/topology.md has the list."""
    message: str


class Source(NamedTuple):
    """A text that is YAML."""

    data: Any
    """Mappings, lists and scalars; keys are text as it is written."""
    lines: dict[Where, int]
    """Of each value the line of its key, of an item of a list its own."""
    findings: tuple[Finding, ...]
    """Keys that stand there twice, aliases without an end."""

    def line(self, where: Where) -> int:
        """The line of what is there, else of the nearest that it would be in."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)


class _Walk:
    def __init__(self, loader: yaml.SafeLoader) -> None:
        self.loader = loader
        self.lines: dict[Where, int] = {}
        self.findings: list[Finding] = []
        self.left = MOST_NODES

    def value(self, node: yaml.Node, where: Where, within: tuple[int, ...] = ()) -> Any:
        self.left -= 1
        if id(node) in within or self.left < 0:
            self.find(node, "yaml", "aliases lead to one another without an end")
            return None
        within += (id(node),)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, where, within)
        if isinstance(node, yaml.SequenceNode):
            found = []
            for index, item in enumerate(node.value):
                inner = (*where, str(index))
                self.lines[inner] = item.start_mark.line + 1
                found.append(self.value(item, inner, within))
            return found
        return self.loader.construct_object(node)

    def mapping(self, node: yaml.MappingNode, where: Where, within: tuple[int, ...]) -> Any:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen and key.value != "<<":
                first = seen[key.value]
                self.find(key, "twice", f"{key.value} stands here and in line {first}")
            seen[str(key.value)] = key.start_mark.line + 1
        self.loader.flatten_mapping(node)
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.find(key, "yaml", "a key is expected to be one word")
                continue
            inner = (*where, key.value)
            self.lines[inner] = key.start_mark.line + 1
            found[key.value] = self.value(value, inner, within)
        return found

    def find(self, node: yaml.Node, rule: str, message: str) -> None:
        self.findings.append(Finding(node.start_mark.line + 1, rule, message))


def source_of(text: str) -> Source:
    """The text's data and lines. What is no YAML at all has one finding, and no data."""
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        walk = _Walk(loader)
        data = None if root is None else walk.value(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = " ".join(filter(None, (error.context, error.problem)))
        return Source(None, {}, (Finding(mark.line + 1 if mark else 1, "yaml", why),))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        return Source(None, {}, (Finding(1, "yaml", " ".join(str(error).split())),))
    except (LookupError, TypeError, AttributeError) as error:  # see `plain.from_yaml`
        why = f"a value that cannot be made, {type(error).__name__}"
        return Source(None, {}, (Finding(1, "yaml", why),))
    return Source(data, walk.lines, tuple(dict.fromkeys(walk.findings)))
