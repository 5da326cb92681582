"""The file that says who a process is to Kafka, as JSON:

    {"user": "projector", "secret_file": "projector.secret", "ca_file": "ca.pem"}

Files that it names are seen from its folder. `certificate_file` and `key_file` are for brokers
that ask for a certificate, with a user or without. What is secret stands in a file of its own,
which nobody but its owner may read. Shell: reads files.
"""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from everlode.access.login import Login, use
from everlode.errors import ConfigError

SETTING = "EVERLODE_KAFKA_LOGIN"
_EXAMPLE = 'e.g. {"user": "projector", "secret_file": "projector.secret", "ca_file": "ca.pem"}'


class LoginFile(BaseModel):
    """What the file holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ca_file: Path
    user: str = ""
    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = "SCRAM-SHA-512"
    secret_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.user) != (self.secret_file is not None):
            raise ValueError("user and secret_file go together")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        if not self.user and self.certificate_file is None:
            raise ValueError("either user, or certificate_file, or both")
        return self


def use_login(file: Path | str | None) -> None:
    """Be who `file` says to every Kafka client that this process makes from now on.

    None: nobody, in plain text. Raises: ConfigError: see `load_login`.
    """
    use(None if file is None else load_login(Path(file)))


def load_login(file: Path) -> Login:
    """The login in a file, with its secret.

    Raises: ConfigError: names the file, what is wrong with it and the way out: it cannot be read,
    a field is wrong; a file that it names is missing, not PEM, or open to others.
    """
    try:
        found = LoginFile.model_validate_json(file.read_text())
    except OSError as error:
        raise ConfigError(
            f"{SETTING}={file}: {error.strerror}", hint=f"a JSON file, {_EXAMPLE}"
        ) from None
    except (UnicodeDecodeError, ValidationError) as error:
        raise ConfigError(f"{SETTING}={file}: {_said(error)}", hint=_EXAMPLE) from None
    ca = _there(file, found.ca_file)
    try:
        ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise ConfigError(f"{ca} holds no certificate", hint="PEM is expected") from None
    secret_file = _private(file, found.secret_file)
    secret = Path(secret_file).read_text().strip() if secret_file else ""
    if secret_file and not secret:
        raise ConfigError(f"{secret_file} is empty", hint=f"put the secret of {found.user} there")
    certificate = _there(file, found.certificate_file)
    if certificate:
        _good(certificate)
    return Login(
        source=str(file),
        ca=ca,
        user=found.user,
        mechanism=found.mechanism,
        secret=secret,
        secret_file=secret_file,
        certificate=certificate,
        key=_private(file, found.key_file),
    )


def _said(error: UnicodeDecodeError | ValidationError) -> str:
    """Never with what the file held: somebody may have put the secret into it."""
    if isinstance(error, UnicodeDecodeError):
        return "not UTF-8"
    item = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(map(str, item["loc"]))
    return f"{field}: {item['msg']}" if field else item["msg"]


def _there(file: Path, named: Path | None) -> str:
    if named is None:
        return ""
    path = file.absolute().parent / named.expanduser()
    if not path.is_file():
        raise ConfigError(
            f"{file}: {path} is no file", hint="correct its name; it is seen from that folder"
        )
    return str(path)


def _good(path: str) -> None:
    """A broker says of an expired certificate only that it does not take it."""
    try:
        x509 = import_module("cryptography.x509")
    except ModuleNotFoundError:  # it is of the extra `services`: then the broker's word must do
        return
    try:
        ends: datetime = x509.load_pem_x509_certificate(Path(path).read_bytes()).not_valid_after_utc
    except ValueError:
        raise ConfigError(f"{path} holds no certificate", hint="PEM is expected") from None
    if ends < datetime.now(UTC):
        raise ConfigError(
            f"{path} has expired, on {ends:%Y-%m-%d}", code="certificate_expired",
            hint="have it renewed by its authority",
        )  # fmt: skip


def _private(file: Path, named: Path | None) -> str:
    """Refused where others could have read it: what they know is no secret any more."""
    path = _there(file, named)
    if path and Path(path).stat().st_mode & 0o077:
        raise ConfigError(
            f"{path} is open to others (mode {Path(path).stat().st_mode & 0o777:04o})",
            code="secret_open", hint=f"chmod 600 {path}, and a new secret if others had it",
        )  # fmt: skip
    return path
