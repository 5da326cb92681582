"""Writes docs/damage.md."""

from __future__ import annotations

from tests.support.damage.document import DOCUMENT, document

DOCUMENT.write_text(document())
