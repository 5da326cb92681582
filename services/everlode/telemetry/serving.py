"""What a server reports. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from everlode.telemetry.entry import Entry


@dataclass(frozen=True, slots=True)
class AskedOverHttp(Entry):
    """Somebody asked a server to change something, or was turned away.

    `who` and `role` are the token's, empty without one of ours; `about` and `id` what was asked and
    the operation's or command's id, empty when it did not come to that; `code` is the refusal's.
    """

    who: str
    role: str
    address: str
    method: str
    path: str
    about: str
    id: str
    status: int
    code: str

    @property
    def text(self) -> str:
        """See Entry."""
        who = f"{self.who or 'nobody'} ({self.role or 'no token'}) at {self.address}"
        what = " ".join(filter(None, (self.method, self.path, self.about, self.id)))
        return f"{who}: {what}: {self.status} {self.code}".rstrip()
