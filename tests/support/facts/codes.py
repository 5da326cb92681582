"""Codes that an answer may have, as docs/format.md lists them."""

from __future__ import annotations

import re
from pathlib import Path

FORMAT = Path(__file__).parents[3] / "docs/format.md"


def documented() -> set[str]:
    """All codes of refusals."""
    section = FORMAT.read_text().partition("### Codes of refusals")[2].partition("\n## ")[0]
    rows = [line.rpartition(" | ")[2] for line in section.splitlines() if line.startswith("| ")]
    return {code for row in rows for code in re.findall(r"`(\w+)`", row)}
