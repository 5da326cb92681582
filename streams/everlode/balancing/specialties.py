"""Which nodes a piece of work is for, by what they are special in. Pure.

A node may name types of tasks. It gets work of these before all others do; a node that names none
takes every type alike; one that names others gets a type last: so work is never left to nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

Specialties = Mapping[str, Sequence[str]]
"""Node → the types of tasks that it names."""


def by_specialty(task_type: str, nodes: Specialties) -> Iterator[tuple[str, ...]]:
    """The nodes for a type of task, the most fitting ones first; in their order, none left out."""
    named, open_, others = list[str](), list[str](), list[str]()
    for node, names in nodes.items():
        (named if task_type in names else others if names else open_).append(node)
    yield from (tuple(some) for some in (named, open_, others) if some)
