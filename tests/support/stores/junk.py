"""What whoever can write to the store may put where a manifest stands."""

from __future__ import annotations

from pathlib import Path

from everlode.backup.keys import KeyRing
from everlode.backup.manifest import Manifest, body_of, dump

KINDS = (
    "empty", "no manifest", "unsigned", "foreign", "no signature", "format", "format of a tool",
    "format that is none", "deep list", "deep object", "surrogate", "cut", "no text",
)  # fmt: skip


def junk(kind: str, forged: Manifest, folder: Path) -> bytes:
    """Its bytes; `forged`: what a forger, who has keys in `folder`, would have us believe."""
    other = KeyRing(folder / "forger")
    other.create()
    nested = b'{"manifest":' + b'{"a":' * 3_000 + b"1" + b"}" * 3_000 + b',"signature":""}'
    return {
        "empty": b"", "no manifest": b"{}", "unsigned": dump(forged, ""),
        "foreign": dump(forged, other.sign(body_of(forged))), "no signature": dump(forged, "zz"),
        "format": b'{"manifest":{"format":99},"signature":""}',
        "format of a tool": b'{"manifest":{"format":99,"tool":"\x7f"},"signature":""}',
        "format that is none": b'{"manifest":{"format":{"a":1}},"signature":""}',
        "deep list": b"[" * 100_000 + b"]" * 100_000, "deep object": nested,
        "surrogate": b'{"manifest":{"format":1,"a":"\\ud800"},"signature":""}',
        "cut": dump(forged, "")[:-9], "no text": b"\xff\x00",
    }[kind]  # fmt: skip
