"""What a record of another schema than today's says in today's words. Pure.

Avro fills in fields that its writer did not have, by their defaults. What it cannot do stands
here, a rule a type: the one place where a record is changed on being read.

Invariants: an upcast changes only what today's model would refuse, loses nothing of it, and done
twice is done once. A record of today's schema is never touched.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from everlode.events.types import StepName

_STEPS = frozenset(get_args(StepName))


def _step(value: dict[str, Any]) -> None:
    """A step outside the list, of a build that had none or knows more: `other`, named by subject.

    The subject that such a step has follows its name.
    """
    step = value["step"]
    if step not in _STEPS:
        value["step"], value["subject"] = "other", f"{step} {value['subject']}".rstrip()


UPCASTS: dict[str, Callable[[dict[str, Any]], None]] = {"OperationStep": _step}
"""Type → what changes a record's plain values, read with today's schema, in place."""
