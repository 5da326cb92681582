"""One door to the five aggregates, by component or by event type. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from everlode.errors import ContractError
from everlode.events import commands as c
from everlode.events.base import Command, Event, Fact
from everlode.events.states import State
from everlode.state import fraud, miner, reward, task, validation
from everlode.state.homes import check_home
from everlode.state.shape import FOLD_VERSION, Context

__all__ = [
    "FOLD_VERSION",
    "Context",
    "component_of_command",
    "component_of_state",
    "decide",
    "evolve",
    "evolve_fact",
    "state_component",
]

_MODULES: dict[str, Any] = {
    "tasks": task,
    "miners": miner,
    "validations": validation,
    "rewards": reward,
    "fraud": fraud,
}
_COMPONENT: dict[type[Event], str] = {
    cls: name for name, module in _MODULES.items() for cls in module.FOLDS
}
_STATES: dict[object, str] = {
    called: name for cls, name in _COMPONENT.items() for called in (cls, cls.__name__)
}
_EVOLVE: dict[str, Callable[[Any, Fact, int], Any]] = {
    name: module.evolve for name, module in _MODULES.items()
}
_DECIDE: dict[str, Callable[[Command, Any, Context], tuple[Event, ...]]] = {
    name: module.decide for name, module in _MODULES.items()
}
_EVOLVE_BY_EVENT = {cls: _EVOLVE[name] for cls, name in _COMPONENT.items()}
_FRAUD_COMMANDS = (c.OpenFraudCase, c.ResolveFraudCase)


def component_of_state(event: type[Event] | str) -> str:
    """State component of an event type or name: tasks, miners, validations, rewards or fraud.

    Raises:
        ContractError: the event folds into no aggregate (a barrier, a signal).
    """
    name = _STATES.get(event)
    if name is None:
        raise ContractError(f"{event} folds into no aggregate", code="no_aggregate")
    return name


def state_component(name: str | None) -> str | None:
    """State component of an event's name; None when it folds into no aggregate."""
    return _STATES.get(name)


def component_of_command(command: Command) -> str:
    """State component that decides a command: its own, or fraud on the validations topic."""
    return "fraud" if isinstance(command, _FRAUD_COMMANDS) else type(command).component


def decide(
    component: str, command: Command, state: State | None, ctx: Context
) -> tuple[Event, ...]:
    """Events that `command` causes on the aggregate; none when it changes nothing.

    `component` is a state component or the topic's: fraud commands, which come on
    `.commands.validations`, find their way.

    Raises:
        Refusal: the command breaks a rule, or is not for this component.
    """
    wanted = component_of_command(command)
    if component not in (wanted, type(command).component):
        raise ContractError(
            f"{type(command).__name__} is not for {component}", code="wrong_component"
        )
    if state is None:
        check_home(ctx.aggregate_id, ctx.home)
    return _DECIDE[wanted](command, state, ctx)


def evolve(component: str, state: State | None, fact: Fact, partition: int) -> State | None:
    """The state after `fact`; None after a deletion (write a tombstone).

    `component` is a state component, or `validations` for a fraud fact.

    Raises:
        IntegrityError: the fact cannot follow this state.
    """
    if component == "validations":
        return evolve_fact(state, fact, partition)
    result: State | None = _EVOLVE[component](state, fact, partition)
    return result


def evolve_fact(state: State | None, fact: Fact, partition: int) -> State | None:
    """As `evolve`, by the fact's own type: the quickest way.

    Raises:
        ContractError: the fact folds into no aggregate (a barrier, a signal).
        IntegrityError: the fact cannot follow this state.
    """
    fold = _EVOLVE_BY_EVENT.get(type(fact.data))
    if fold is None:
        raise ContractError(
            f"{type(fact.data).__name__} folds into no aggregate", code="no_aggregate"
        )
    result: State | None = fold(state, fact, partition)
    return result
