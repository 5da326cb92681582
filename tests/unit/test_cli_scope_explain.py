"""What `everlode scope explain` says of how long a handling takes: `unknown`, with the count."""

from __future__ import annotations

from typing import Any

import pytest

from everlode.cli.scope import _foreseen


@pytest.mark.parametrize(
    ("recovery", "said"),
    [
        ({"ms": None, "cases": 4, "score": {"cases": 0, "typical_error_ms": None,
                                             "within_half": None}, "delay_score": None},
         "a lost node is handled in: unknown (of 4 cases); "
         "earlier estimates were off by: unknown (of 0 cases)"),
        ({"ms": 1400, "cases": 12, "score": {"cases": 7, "typical_error_ms": 90,
                                              "within_half": 6},
          "delay_score": {"cases": 3, "typical_error_ms": None, "within_half": None}},
         "a lost node is handled in: 1400 ms (of 12 cases); "
         "earlier estimates were off by: 90 ms, 6 of them within half (of 7 cases); "
         "those of the delay of what waited by: unknown (of 3 cases)"),
    ],
)  # fmt: skip
def test_estimate_is_said_with_its_cases(recovery: dict[str, Any], said: str) -> None:
    assert _foreseen(recovery) == said
