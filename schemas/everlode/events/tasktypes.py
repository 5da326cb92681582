"""TaskType: an open, checked list of kinds of work. Pure."""

from __future__ import annotations

import re

from everlode.errors import ConfigError, Refusal

DEFAULT_TASK_TYPES = (
    "training",
    "fine-tuning",
    "inference",
    "evaluation",
    "data-processing",
)
_NAME = re.compile(r"^[a-z][a-z0-9-]{1,39}$")


def check_task_types(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the list, sorted and without repeats.

    Raises:
        ConfigError: the list is empty or a name is malformed.
    """
    bad = [n for n in names if not _NAME.match(n)]
    if bad or not names:
        raise ConfigError(
            f"task types: {bad[0]!r} is no name" if bad else "task types: the list is empty",
            hint="use lower-case letters, digits and dashes, e.g. fine-tuning",
        )
    return tuple(sorted(set(names)))


def check_task_type(name: str, known: tuple[str, ...] = DEFAULT_TASK_TYPES) -> str:
    """Return `name` if it is on the list.

    Raises:
        Refusal: it is not.
    """
    if name not in known:
        raise Refusal(
            f"task type {name!r} is not known here",
            code="unknown_task_type",
            hint=f"known: {', '.join(known)}; the topology's task_types may name more",
        )
    return name
