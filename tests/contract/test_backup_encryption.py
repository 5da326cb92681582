"""Streaming encryption against Tink itself, both ways, and against every kind of damage."""

from __future__ import annotations

import io
import os
from typing import Any

import pytest
import tink
from tink import secret_key_access, streaming_aead
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

from everlode.backup.encryption import SEGMENT, decrypt, encrypt
from everlode.errors import IntegrityError, WrongKey

streaming_aead.register()
KEY = bytes(range(32))
HEADER = 40
FIRST = SEGMENT - HEADER - 16
SIZES = (0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + SEGMENT - 16, FIRST + SEGMENT - 15, 3_500_000)


def oracle(key: bytes) -> Any:
    params = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingParams(
        ciphertext_segment_size=SEGMENT, derived_key_size=32, hkdf_hash_type=common_pb2.SHA256
    )
    value = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(
        version=0, key_value=key, params=params
    )
    keyset = tink_pb2.Keyset(primary_key_id=1)
    keyset.key.add(
        key_data=tink_pb2.KeyData(
            type_url="type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey",
            value=value.SerializeToString(),
            key_material_type=tink_pb2.KeyData.SYMMETRIC,
        ),
        status=tink_pb2.ENABLED,
        key_id=1,
        output_prefix_type=tink_pb2.RAW,
    )
    handle = tink.proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


def ours(plain: bytes, key: bytes = KEY, associated: bytes = b"name") -> bytes:
    out = io.BytesIO()
    encrypt(io.BytesIO(plain), out, key, associated)
    return out.getvalue()


def opened(sealed: bytes, key: bytes = KEY, associated: bytes = b"name") -> bytes:
    out = io.BytesIO()
    decrypt(io.BytesIO(sealed), out, key, associated, "obj")
    return out.getvalue()


class Kept(io.BytesIO):
    """Keeps its bytes when it is closed."""

    kept = b""

    def close(self) -> None:
        self.kept = self.getvalue()
        super().close()


@pytest.mark.parametrize("size", SIZES)
def test_tink_opens_ours(size: int) -> None:
    plain = os.urandom(size)
    stream = oracle(KEY).new_decrypting_stream(io.BytesIO(ours(plain)), b"name")
    assert stream.read() == plain


@pytest.mark.parametrize("size", SIZES)
def test_ours_opens_tink(size: int) -> None:
    plain, out = os.urandom(size), Kept()
    with oracle(KEY).new_encrypting_stream(out, b"name") as stream:
        stream.write(plain)
    assert opened(out.kept) == plain


def test_same_content_is_never_the_same_bytes() -> None:
    assert ours(b"content") != ours(b"content")


@pytest.mark.parametrize("at", [1, 33, 39, 40, HEADER + 5])
def test_changed_first_segment_or_header_is_refused(at: int) -> None:
    sealed = bytearray(ours(os.urandom(100)))
    sealed[at] ^= 1
    with pytest.raises(WrongKey, match="obj: segment 0"):
        opened(bytes(sealed))


def test_changed_header_length_is_refused() -> None:
    sealed = bytearray(ours(b"x"))
    sealed[0] += 1
    with pytest.raises(IntegrityError, match="header"):
        opened(bytes(sealed))


@pytest.mark.parametrize(
    ("key", "associated"), [(bytes(32), b"name"), (KEY, b"another name")], ids=["key", "name"]
)
def test_another_key_or_name_is_wrong(key: bytes, associated: bytes) -> None:
    with pytest.raises(WrongKey):
        opened(ours(b"content"), key, associated)


def test_changed_later_segment_names_it() -> None:
    sealed = bytearray(ours(os.urandom(3 * SEGMENT)))
    sealed[2 * SEGMENT + 7] ^= 0x80
    with pytest.raises(IntegrityError, match="obj: segment 2") as caught:
        opened(bytes(sealed))
    assert not isinstance(caught.value, WrongKey)


@pytest.mark.parametrize("length", [2 * SEGMENT, SEGMENT, 2 * SEGMENT + 100, SEGMENT + 16])
def test_cut_off_stream_is_refused(length: int) -> None:
    sealed = ours(os.urandom(3 * SEGMENT))
    with pytest.raises(IntegrityError):
        opened(sealed[:length])


def test_reordered_doubled_and_appended_segments_are_refused() -> None:
    sealed = ours(os.urandom(4 * SEGMENT))
    parts = [sealed[i : i + SEGMENT] for i in range(0, len(sealed), SEGMENT)]
    for order in ((0, 2, 1, 3, 4), (0, 1, 1, 2, 3, 4), (0, 1, 2, 3, 4, 4), (0, 2, 3, 4)):
        with pytest.raises(IntegrityError):
            opened(b"".join(parts[i] for i in order))


@pytest.mark.parametrize("length", [0, 1, 39])
def test_shorter_than_its_header_is_refused(length: int) -> None:
    with pytest.raises(IntegrityError, match="header"):
        opened(ours(b"content")[:length])
