"""Keys of backups, in files of a folder: key-encryption keys by name, and one signing key.

`<name>.kek` holds 32 bytes in hex; `signing.key` an Ed25519 key in hex, `signing.pub` its public
half. Files that others may read are refused. A data key is wrapped with AES-256-GCM, the object's
name as associated data. Shell.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from everlode.errors import ConfigError, IntegrityError, WrongKey

DEFAULT_KEY = "backup-v1"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class KeyRing:
    """The keys in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self, name: str = DEFAULT_KEY) -> None:
        """Make a key-encryption key, and the signing key when there is none. Idempotent.

        Raises: ConfigError: a bad name.
        """
        _check(name)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._new(f"{name}.kek", os.urandom(32))
        if not (self.folder / "signing.key").exists():
            private = Ed25519PrivateKey.generate()
            self._new("signing.key", private.private_bytes_raw())
            self._new("signing.pub", private.public_key().public_bytes_raw())

    def names(self) -> list[str]:
        """Names of the key-encryption keys, sorted."""
        return sorted(p.stem for p in self.folder.glob("*.kek"))

    def _new(self, name: str, value: bytes) -> None:
        try:
            descriptor = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return
        with os.fdopen(descriptor, "w") as file:
            file.write(value.hex() + "\n")

    def _read(self, name: str) -> bytes:
        path = self.folder / name
        try:
            if path.stat().st_mode & 0o077:
                raise ConfigError(
                    f"key file {path} can be read by others", hint=f"chmod 600 {path}"
                )
            value = bytes.fromhex(path.read_text().strip())
        except FileNotFoundError:
            raise WrongKey(
                f"key {name} is not in {self.folder}",
                hint="everlode backup keys create, or name the folder with --keys",
            ) from None
        except ValueError:
            raise ConfigError(f"key file {path} is not 32 bytes in hex") from None
        if len(value) != 32:
            raise ConfigError(f"key file {path} is not 32 bytes in hex")
        return value

    def wrap(self, name: str, data_key: bytes, context: str) -> str:
        """A data key, wrapped for the manifest, in hex."""
        _check(name)
        nonce = os.urandom(12)
        sealed = AESGCM(self._read(f"{name}.kek")).encrypt(nonce, data_key, context.encode())
        return (nonce + sealed).hex()

    def unwrap(self, name: str, wrapped: str, context: str) -> bytes:
        """The data key again. Raises: WrongKey: missing, or another one; ConfigError."""
        _check(name)
        kek = self._read(f"{name}.kek")
        try:
            raw = bytes.fromhex(wrapped)
            return AESGCM(kek).decrypt(raw[:12], raw[12:], context.encode())
        except (InvalidTag, ValueError):
            raise WrongKey(
                f"key {name} does not open {context}",
                hint="it is another key of this name: find the one that made the backup",
            ) from None

    def sign(self, data: bytes) -> str:
        """Ed25519 signature in hex."""
        return Ed25519PrivateKey.from_private_bytes(self._read("signing.key")).sign(data).hex()

    def check(self, data: bytes, signature: str) -> None:
        """Raises: IntegrityError: the signature is not by our signing key."""
        public = Ed25519PublicKey.from_public_bytes(self._read("signing.pub"))
        try:
            public.verify(bytes.fromhex(signature), data)
        except (InvalidSignature, ValueError):
            raise IntegrityError(
                "the manifest's signature is wrong",
                code="bad_signature",
                hint="it was changed, or signed by another key (signing.pub)",
            ) from None


def _check(name: str) -> None:
    """A name is a file's: nothing else may be reached by it."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"key name {name!r}: expected a-z, 0-9 and -, at most 63 characters")
