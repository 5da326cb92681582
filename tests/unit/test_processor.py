"""The share of the processor: larger within, as before afterwards, and never an error."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

from everlode.adapters import processor
from everlode.adapters.processor import GAIN, preferred, uncollected


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def test_preference_ends_with_the_block_also_after_an_error() -> None:
    before = niceness()
    with preferred():
        assert niceness() in (before, max(-20, before - GAIN))  # as the system permits
    assert niceness() == before
    with pytest.raises(ZeroDivisionError), preferred():
        raise ZeroDivisionError
    assert niceness() == before


def test_garbage_is_collected_again_after_the_block_if_it_was_before() -> None:
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            assert not gc.isenabled()
        assert not gc.isenabled()
    with pytest.raises(ZeroDivisionError), uncollected():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_process_that_is_forked_within_the_block_collects() -> None:
    with uncollected():
        child = os.fork()
        if child == 0:
            os._exit(0 if gc.isenabled() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert not gc.isenabled()
    gc.disable()
    try:
        with uncollected():
            child = os.fork()
            if child == 0:
                os._exit(1 if gc.isenabled() else 0)  # its program does not want it
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        gc.enable()


def test_session_is_preferred_where_sessions_are_served_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tmp_path / "autogroup"
    session.write_text("/autogroup-17 nice 3\n")
    monkeypatch.setattr(processor, "_SESSION", session)
    with preferred():
        assert session.read_text() == str(3 - GAIN)
    assert session.read_text() == "3"


def test_system_that_permits_nothing_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: int) -> None:
        raise PermissionError

    monkeypatch.setattr("os.setpriority", refused)
    monkeypatch.setattr(processor, "_SESSION", tmp_path / "none")
    with preferred():
        pass
    assert not (tmp_path / "none").exists()
