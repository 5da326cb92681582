"""Who this process is to Kafka: the one place from which every client takes its security settings.

A process has one login, or none: then it speaks plain text, to brokers on loopback. It is given
to `use` where the process is put together, before its first client. In the words of librdkafka and
of Kafka's Java clients here; in those of aiokafka in `everlode.agents.app`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MECHANISM = "SCRAM-SHA-512"


@dataclass(frozen=True)
class Login:
    """A principal of Kafka, and what it proves itself by. Always over TLS."""

    source: str
    """File that it came from, for errors."""
    ca: str
    """PEM file of the authorities whose brokers are believed."""
    user: str = ""
    """Name for SASL; empty: it proves itself by its certificate alone."""
    mechanism: str = MECHANISM
    secret: str = field(default="", repr=False)
    secret_file: str = ""
    """Where `secret` came from, for errors."""
    certificate: str = ""
    """PEM file of its own certificate, or empty."""
    key: str = ""
    """PEM file of the certificate's key."""

    @property
    def protocol(self) -> str:
        """In Kafka's words."""
        return "SASL_SSL" if self.user else "SSL"

    @property
    def said(self) -> str:
        """As errors name it."""
        who = f"user {self.user!r}" if self.user else f"the certificate {self.certificate}"
        return f"{who} of {self.source}"

    def librdkafka(self) -> dict[str, str]:
        """Settings of a client of librdkafka; they hold the secret."""
        found = {"security.protocol": self.protocol, "ssl.ca.location": self.ca}
        if self.user:
            found |= {
                "sasl.mechanism": self.mechanism,
                "sasl.username": self.user,
                "sasl.password": self.secret,
            }
        if self.certificate:
            found |= {
                "ssl.certificate.location": self.certificate,
                "ssl.key.location": self.key,
            }
        return found


class _Process:
    login: Login | None = None


def use(login: Login | None) -> None:
    """Be this from now on; clients that there are stay what they were."""
    _Process.login = login


def current() -> Login | None:
    """What this process is; None: nothing was said, it speaks plain text."""
    return _Process.login
