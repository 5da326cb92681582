"""Keys of backups: made whole or not at all, on disk before it is reported, and tried."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from types import FrameType
from typing import Any

import pytest

from everlode.backup import keys as keys_module
from everlode.backup.keys import KeyRing
from everlode.errors import ConfigError, EverlodeError, WrongKey

TraceFunction = Callable[[FrameType, str, Any], Any]


def killed_before(line: int, ring: KeyRing) -> bool:
    """Make keys in a process that is killed before it carries out the `line`-th line of keys.py.

    Whether it was.
    """
    child = os.fork()
    if child == 0:
        left = line

        def count(frame: FrameType, event: str, _: object) -> TraceFunction | None:
            nonlocal left
            if frame.f_code.co_filename != keys_module.__file__:
                return None
            left -= event == "line"
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return count

        ended = 1
        try:
            sys.settrace(count)
            ring.create()
            ended = 0
        finally:
            os._exit(ended)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return os.WIFSIGNALED(status)


@pytest.fixture
def keys(tmp_path: Path) -> KeyRing:
    ring = KeyRing(tmp_path / "keys")
    ring.create()
    return ring


def contents(ring: KeyRing) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in ring.folder.iterdir() if not p.name.startswith(".")}


def test_create_that_is_killed_anywhere_leaves_whole_keys_or_none(tmp_path: Path) -> None:
    line, killed = 0, True
    while killed:
        ring = KeyRing(tmp_path / str(line) / "keys")
        killed = killed_before(line, ring)
        left = contents(ring) if ring.folder.exists() else {}
        assert all(len(bytes.fromhex(v.decode())) == 32 for v in left.values()), line
        ring.create()
        ring.probe()
        assert contents(ring).items() >= left.items()  # and it goes on with what is there
        line += 1
    assert line > 50


def test_two_that_make_keys_at_once_have_one_pair(tmp_path: Path) -> None:
    count = 4
    with ThreadPoolExecutor(count) as threads:
        for number in range(25):
            ring, together = KeyRing(tmp_path / str(number)), Barrier(count)

            def make(_: int, ring: KeyRing = ring, together: Barrier = together) -> bytes:
                together.wait()
                ring.create()
                ring.probe()
                return contents(ring)["signing.pub"]

            assert len(set(threads.map(make, range(count)))) == 1


def test_keys_are_on_disk_before_they_have_their_names_and_the_names_before_it_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, link = os.fsync, os.link

    def synced(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)
        done.append(f"{path.name} {path.stat().st_size}" if path.is_file() else f"{path.name}/")

    def linked(source: str, target: Path) -> None:
        link(source, target)
        done.append(f"{Path(source).name} is {target.name}")

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "link", linked)
    KeyRing(tmp_path / "a" / "keys").create()
    assert [f"{tmp_path.name}/", "a/"] == sorted(done[:2], key=lambda name: name == "a/")
    for name in ("backup-v1.kek", "signing.key", "signing.pub"):
        (named,) = (n for n, what in enumerate(done) if what.endswith(f" is {name}"))
        unnamed = done[named].split(" is ")[0]
        assert f"{unnamed} 65" in done[:named]
        assert "keys/" in done[named:]


def test_lost_public_half_is_derived_again(keys: KeyRing) -> None:
    public, signature = contents(keys)["signing.pub"], keys.sign(b"data")
    (keys.folder / "signing.pub").unlink()
    keys.check(b"data", signature)
    keys.probe()
    keys.create()
    assert contents(keys)["signing.pub"] == public


def test_folder_that_can_only_verify_gets_no_other_signing_key(keys: KeyRing) -> None:
    signature = keys.sign(b"data")
    (keys.folder / "signing.key").unlink()
    with pytest.raises(ConfigError, match=r"signing\.key is not") as caught:
        keys.create("second")
    assert "copy" in caught.value.hint
    keys.check(b"data", signature)
    assert keys.names() == ["backup-v1"]
    with pytest.raises(WrongKey, match=r"signing\.key"):
        keys.probe()


def test_halves_that_do_not_fit_are_refused_before_anything_is_made(
    keys: KeyRing, tmp_path: Path
) -> None:
    other = KeyRing(tmp_path / "other")
    other.create()
    (keys.folder / "signing.pub").write_bytes(contents(other)["signing.pub"])
    for attempt in (keys.create, keys.probe):
        with pytest.raises(ConfigError, match="public half") as caught:
            attempt()
        assert "derived again" in caught.value.hint


@pytest.mark.parametrize("name", ["backup-v1.kek", "signing.key", "signing.pub"])
@pytest.mark.parametrize("text", ["", "zz", "00" * 31], ids=["empty", "no hex", "short"])
def test_key_that_an_interruption_left_empty_never_passes_for_one(
    keys: KeyRing, name: str, text: str
) -> None:
    (keys.folder / name).write_text(text)
    for attempt in (keys.create, keys.probe):
        with pytest.raises(ConfigError, match=f"{name} is not 32 bytes") as caught:
            attempt()
        assert "copy" in caught.value.hint
    assert (keys.folder / name).read_text() == text


def test_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="file/keys cannot be made") as caught:
        KeyRing(tmp_path / "file" / "keys").create()
    assert "--keys" in caught.value.hint


def test_wrapped_key_opens_its_object_only(keys: KeyRing) -> None:
    data_key = bytes(range(32))
    wrapped = keys.wrap("backup-v1", data_key, "eu/b/one")
    assert keys.unwrap("backup-v1", wrapped, "eu/b/one") == data_key
    with pytest.raises(WrongKey, match="eu/b/two"):
        keys.unwrap("backup-v1", wrapped, "eu/b/two")


def test_another_key_of_the_same_name_is_wrong(keys: KeyRing, tmp_path: Path) -> None:
    other = KeyRing(tmp_path / "other")
    other.create()
    wrapped = keys.wrap("backup-v1", bytes(32), "eu/b/one")
    with pytest.raises(WrongKey) as caught:
        other.unwrap("backup-v1", wrapped, "eu/b/one")
    assert caught.value.exit_code == 12


@pytest.mark.parametrize("wrapped", ["", "zz", "00" * 8, "é"])
def test_wrapped_key_that_is_none_is_wrong(keys: KeyRing, wrapped: str) -> None:
    with pytest.raises(WrongKey):
        keys.unwrap("backup-v1", wrapped, "eu/b/one")


def test_missing_key_is_wrong_and_names_the_way_out(keys: KeyRing) -> None:
    with pytest.raises(WrongKey, match="gone") as caught:
        keys.unwrap("gone", "00" * 60, "eu/b/one")
    assert caught.value.exit_code == 12
    assert "--keys" in caught.value.hint


def test_key_that_others_may_read_is_refused(keys: KeyRing) -> None:
    (keys.folder / "backup-v1.kek").chmod(0o644)
    with pytest.raises(ConfigError, match="read by others") as caught:
        keys.wrap("backup-v1", bytes(32), "x")
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize("text", ["", "zz", "00" * 31])
def test_damaged_key_file_is_a_configuration_error_without_its_content(
    keys: KeyRing, text: str
) -> None:
    path = keys.folder / "backup-v1.kek"
    path.write_text(text)
    with pytest.raises(ConfigError, match="32 bytes") as caught:
        keys.wrap("backup-v1", bytes(32), "x")
    assert not text or text not in caught.value.message


def test_create_never_replaces_a_key(keys: KeyRing) -> None:
    before = {p.name: p.read_bytes() for p in keys.folder.iterdir()}
    keys.create()
    keys.create("second")
    assert {n: (keys.folder / n).read_bytes() for n in before} == before
    assert keys.names() == ["backup-v1", "second"]


@pytest.mark.parametrize("name", ["", "../up", "a/b", "A", "x" * 64, "."])
def test_bad_key_name_is_refused(keys: KeyRing, name: str) -> None:
    with pytest.raises(EverlodeError):
        keys.create(name)
    with pytest.raises(EverlodeError):
        keys.unwrap(name, "00" * 60, "x")
