"""A text that people write, as plain values: whatever it is, it has one error. Pure."""

from __future__ import annotations

from typing import Any

import yaml


def from_yaml(text: str) -> Any:
    """The values of a YAML text. Raises: ValueError: it is none; says why."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(" ".join(str(error).split())) from None
    except (LookupError, TypeError, AttributeError, RecursionError) as error:
        # what makes a value of its text has no error of its own: `!!bool x`, `!!timestamp x`
        raise ValueError(f"a value that cannot be made, {type(error).__name__}") from None
