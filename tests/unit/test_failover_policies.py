"""The policies of the four services: one each, and each end is told in its own event."""

from __future__ import annotations

from typing import Any

import pytest

from everlode.control.fold import NodeState
from everlode.control.scopes import COMPONENT_OF
from everlode.events.types import RecoveryAction
from everlode.failover.estimates import UNKNOWN
from everlode.failover.policy import End, Policy, of_all
from everlode.processes.policies import policies
from everlode.settings.environment import Settings

POLICIES = policies(Settings(), 2)
NODE = NodeState("n", "eu", "", "expert", "127.0.0.1:1", 1, "lost", 1, 2)


def test_every_service_that_leads_a_scope_has_one_policy() -> None:
    assert POLICIES.keys() == COMPONENT_OF.keys() - {"coordinator"}
    assert all(name == policy.service.scope for name, policy in POLICIES.items())
    assert len({policy.service.operation for policy in POLICIES.values()}) == len(POLICIES)
    assert of_all(POLICIES.values()) == POLICIES


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("new_primary", [None, "m"])
def test_end_is_told_in_the_event_that_the_policy_names(
    policy: Policy[Any], new_primary: str | None
) -> None:
    action: RecoveryAction = "secondary-promoted" if new_primary else "secondary-removed"
    end = End("o", NODE, action, new_primary, True, 7, 2_000, 9_000, UNKNOWN, 0)
    event = policy.ended(end)
    assert type(event) is policy.service.ended
    assert event.model_dump().items() >= {"actual_recovery_ms": 9_000, "success": True}.items()


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_facts_that_a_policy_observes_are_those_of_its_own_service(policy: Policy[Any]) -> None:
    assert policy.facts in (None, policy.service.facts)
