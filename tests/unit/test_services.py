"""The table of the four services agrees with the contract, and there is no second one."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import get_args

import pytest

from everlode.control.scopes import COMPONENT_OF, SCOPE_OF
from everlode.events.catalogue import COMMANDS, EVENTS, FACT_COMPONENTS, STATES
from everlode.events.services import SERVICES, STATES_OF, Service
from everlode.events.types import AIComponent, OperationKind

ROOT = Path(__file__).parents[2]
CODE = [p for root in ("schemas", "streams", "services") for p in (ROOT / root).rglob("*.py")]
CLOSED_LISTS = {"types.py", "services.py"}
"""Literals of the contract, and the table itself."""


@pytest.mark.parametrize("column", Service._fields)
def test_services_have_a_name_of_their_own_in_each_column(column: str) -> None:
    assert len({getattr(service, column) for service in SERVICES}) == len(SERVICES) == 4


def test_services_are_those_of_the_contract() -> None:
    assert {command.component for command in COMMANDS.values()} == set(FACT_COMPONENTS)
    assert {s.operation for s in SERVICES} <= set(get_args(OperationKind))
    assert {s.ended for s in SERVICES} <= {kind.model for kind in EVENTS.values()}
    assert set(STATES_OF) == set(get_args(AIComponent))
    assert set(STATES_OF.values()) == set(STATES)


def test_scopes_are_named_both_ways() -> None:
    assert {scope: facts for facts, scope in SCOPE_OF.items()} == COMPONENT_OF


def test_no_other_module_maps_one_name_of_a_service_to_another() -> None:
    names = {name for s in SERVICES for name in s[:4]} | {s.operation for s in SERVICES}

    def maps(node: ast.Dict) -> bool:
        pairs = zip(node.keys, node.values, strict=True)
        named = [
            (key.value, value.value)
            for key, value in pairs
            if isinstance(key, ast.Constant) and isinstance(value, ast.Constant)
        ]
        return sum(key in names and value in names for key, value in named) >= 2

    tables = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in CODE
        if path.name not in CLOSED_LISTS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Dict) and maps(node)
    ]
    assert tables == []
