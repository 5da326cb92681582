"""Streaming encryption in Tink's published format AES256_GCM_HKDF_1MB, on `cryptography`.

Source: the Tink wire format, "AES-GCM-HKDF Streaming AEAD". A file is a header (its length in one
byte, a salt of 32 bytes, a nonce prefix of 7) and segments of 1 MiB ciphertext, the first shorter
by the header. Each segment is sealed with AES-256-GCM under HKDF-SHA256(key, salt, associated
data) and the nonce prefix ‖ number (4 bytes) ‖ last (1 byte), so that segments cannot be cut off,
moved or changed unseen. Memory: one segment.
"""

from __future__ import annotations

import os
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from everlode.errors import IntegrityError, WrongKey

SEGMENT = 1 << 20
KEY_BYTES = 32
_TAG = 16
_PREFIX = 7
_HEADER = 1 + KEY_BYTES + _PREFIX


def _derived(key: bytes, salt: bytes, associated: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt, associated).derive(key))


def _nonce(prefix: bytes, number: int, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + (b"\x01" if last else b"\x00")


def encrypt(source: BinaryIO, target: BinaryIO, key: bytes, associated: bytes) -> None:
    """Encrypt a stream. `key` has 32 bytes and is used for this object only."""
    salt, prefix = os.urandom(KEY_BYTES), os.urandom(_PREFIX)
    target.write(bytes([_HEADER]) + salt + prefix)
    cipher = _derived(key, salt, associated)
    room = SEGMENT - _HEADER - _TAG
    number = 0
    plain = source.read(room)
    while True:
        following = source.read(SEGMENT - _TAG)
        last = not following
        target.write(cipher.encrypt(_nonce(prefix, number, last), plain, None))
        if last:
            return
        plain, number = following, number + 1


def decrypt(
    source: BinaryIO, target: BinaryIO, key: bytes, associated: bytes, name: str = "object"
) -> None:
    """Decrypt a stream; what was written before an error must not be used.

    Raises: WrongKey: the first segment does not open. IntegrityError: a later one does not, or
    the stream is cut off; names the object and the segment.
    """
    header = source.read(_HEADER)
    if len(header) != _HEADER or header[0] != _HEADER:
        raise IntegrityError(f"{name}: no encrypted object (its header is broken)")
    salt, prefix = header[1 : 1 + KEY_BYTES], header[1 + KEY_BYTES :]
    cipher = _derived(key, salt, associated)
    number = 0
    sealed = source.read(SEGMENT - _HEADER)
    while True:
        following = source.read(SEGMENT)
        last = not following
        try:
            target.write(cipher.decrypt(_nonce(prefix, number, last), sealed, None))
        except (InvalidTag, ValueError):
            what = f"{name}: segment {number} does not open"
            if number == 0:
                raise WrongKey(
                    what, hint="the key is another one, or the object was changed"
                ) from None
            raise IntegrityError(what, hint="the object was changed or cut off") from None
        if last:
            return
        sealed, number = following, number + 1
