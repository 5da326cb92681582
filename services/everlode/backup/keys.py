"""Keys of backups, in files of a folder: key-encryption keys by name, and one signing key.

`<name>.kek` holds 32 bytes in hex; `signing.key` an Ed25519 key in hex, `signing.pub` its public
half. Files that others may read are refused. A data key is wrapped with AES-256-GCM, the object's
name as associated data.

Invariants: a key has its name only once it is whole and on disk; it never gets another content; the
public half is derived from the private one, also when it was lost. So whoever makes keys at the
same time, or is killed while he does, leaves keys that fit each other, or none. Shell.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from everlode.errors import ConfigError, IntegrityError, WrongKey

DEFAULT_KEY = "backup-v1"
PRIVATE, PUBLIC = "signing.key", "signing.pub"
WAY_OUT = "put its copy back; a key that no backup was made with may be removed, and made anew"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class KeyRing:
    """The keys in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self, name: str = DEFAULT_KEY) -> None:
        """Make a key-encryption key, and the signing key when there is none. Idempotent.

        When it returns, the keys are on disk, and were tried: see `probe`.

        Raises: ConfigError: a bad name; a key that is there is damaged, half a pair, or does not
        fit; the folder cannot be written.
        """
        _check(name)
        if (self.folder / PUBLIC).exists() and not (self.folder / PRIVATE).exists():
            raise ConfigError(
                f"{PUBLIC} is in {self.folder}, and {PRIVATE} is not: this folder can only verify",
                hint=f"put the copy of {PRIVATE} back, or name another folder with --keys",
            )
        try:
            self._make_folder()
            self._new(f"{name}.kek", os.urandom(32))
            self._new(PRIVATE, Ed25519PrivateKey.generate().private_bytes_raw())
            self._new(PUBLIC, _public_half(self._read(PRIVATE)))
        except OSError as error:
            raise ConfigError(
                f"keys in {self.folder} cannot be made: {error.strerror}",
                hint="name a folder that can be written and has hard links, with --keys",
            ) from None
        self.probe(name)

    def probe(self, name: str = DEFAULT_KEY) -> None:
        """Sign and check, seal and open something: would a backup that is made now be read again?

        Raises: WrongKey: a key is missing. ConfigError: one is damaged, or the halves of the
        signing key do not fit.
        """
        data, context = os.urandom(32), "probe"
        try:
            self.check(data, self.sign(data))
        except WrongKey:
            raise
        except IntegrityError:
            raise ConfigError(
                f"{self.folder / PUBLIC} is not the public half of {PRIVATE}",
                hint=f"keep that with which backup verify opens the backups; if it is {PRIVATE},"
                f" remove {PUBLIC}: it is derived again by everlode backup keys create",
            ) from None
        if self.unwrap(name, self.wrap(name, data, context), context) != data:
            raise ConfigError(f"key {name} does not open what it sealed", hint=WAY_OUT)

    def names(self) -> list[str]:
        """Names of the key-encryption keys, sorted."""
        return sorted(p.stem for p in self.folder.glob("*.kek"))

    def _make_folder(self) -> None:
        """The folder and those above it, by names that outlast a power cut."""
        missing = [p for p in (self.folder, *self.folder.parents) if not p.exists()]
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for made in missing:
            _to_disk(made.parent)

    def _new(self, name: str, value: bytes) -> None:
        """A whole file, on disk before it has its name; the first to give the name has made it.

        Raises: OSError.
        """
        path = self.folder / name
        if not path.exists():
            descriptor, unnamed = tempfile.mkstemp(".new", f".{name}.", self.folder)
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(value.hex() + "\n")
                    file.flush()
                    os.fsync(descriptor)
                os.link(unnamed, path)
            except FileExistsError:
                pass
            finally:
                os.unlink(unnamed)
        _to_disk(path)  # another may have made it, a moment ago
        _to_disk(self.folder)

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
        except OSError as error:
            raise ConfigError(
                f"key file {path} cannot be read: {error.strerror}", hint=WAY_OUT
            ) from None
        except ValueError:
            value = b""
        if len(value) != 32:
            raise ConfigError(f"key file {path} is not 32 bytes in hex", hint=WAY_OUT)
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
        return Ed25519PrivateKey.from_private_bytes(self._read(PRIVATE)).sign(data).hex()

    def check(self, data: bytes, signature: str) -> None:
        """Raises: IntegrityError: the signature is not by our signing key."""
        try:
            public = Ed25519PublicKey.from_public_bytes(self._public())
            public.verify(bytes.fromhex(signature), data)
        except (InvalidSignature, ValueError):
            raise IntegrityError(
                "the manifest's signature is wrong",
                code="bad_signature",
                hint="it was changed, or signed by another key (signing.pub)",
            ) from None

    def _public(self) -> bytes:
        """The public half; one that was lost is derived, where the private one is."""
        if not (self.folder / PUBLIC).exists() and (self.folder / PRIVATE).exists():
            return _public_half(self._read(PRIVATE))
        return self._read(PUBLIC)


def _public_half(private: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def _to_disk(path: Path) -> None:
    """A file's content, or a folder's names, outlast a power cut. Raises: OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check(name: str) -> None:
    """A name is a file's: nothing else may be reached by it."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"key name {name!r}: expected a-z, 0-9 and -, at most 63 characters")
