"""The pages that promise commands: what a reader of the tutorial and the how-tos types and saves.

A command stands in a `console` block after `$ `; lines below it are output that is to be seen. A
`yaml` or `python` block whose first line is `# NAME` is the file NAME. Pure, but for reading pages.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[3]
FOLDERS = ("docs/tutorial", "docs/howto")
FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.M | re.S)
OF_THE_SITE = ("{toctree}", "mermaid")
SAVED = re.compile(r"# (\S+\.(?:yaml|py))\n")


class Typed(NamedTuple):
    """A command, and lines that it prints."""

    line: str
    seen: tuple[str, ...]


def pages() -> list[Path]:
    """All pages of the tutorial and the how-tos."""
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).glob("*.md"))


def typed(text: str) -> list[Typed]:
    """The commands of a page, in their order."""
    found: list[Typed] = []
    for kind, body in FENCE.findall(text):
        if kind != "console":
            continue
        for line in body.splitlines():
            if line.startswith("$ "):
                found.append(Typed(line.removeprefix("$ "), ()))
            else:
                found[-1] = found[-1]._replace(seen=(*found[-1].seen, line))
    return found


def saved(text: str) -> dict[str, str]:
    """The files of a page: name → content."""
    return {
        name[1]: body
        for kind, body in FENCE.findall(text)
        if kind in ("yaml", "python") and (name := SAVED.match(body))
    }


def unread(text: str) -> list[str]:
    """What looks like something to type or to save, and would not be run: blocks, files."""
    wrong = [
        f"```{kind}" for kind, body in FENCE.findall(text)
        if kind not in ("console", *OF_THE_SITE)
        and not (kind in ("yaml", "python") and SAVED.match(body))
    ]  # fmt: skip
    wrong += [body for kind, body in FENCE.findall(text) if kind == "console" and body[:2] != "$ "]
    plain = FENCE.sub("", text)
    wrong += re.findall(r"(?:^|\n\n)(    \S.*)", plain)
    commands = " ".join(one.line for one in typed(text))
    return wrong + [name for name in saved(text) if name not in commands]
