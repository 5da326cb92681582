"""A process has one log: what it reports, what libraries log, and the error that ends it."""

from __future__ import annotations

import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from everlode.cli.options import progress
from everlode.errors import ConfigError, IntegrityError
from everlode.processes.host import hosted
from everlode.stack.native.state import read_state, write_state
from everlode.stack.native.supervisor import REPORTED, reported_by
from everlode.telemetry.entries import Note, PartReady, ProcessReady, StackReady
from tests.support.processes.entries import entries, entry_in, matching


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVERLODE_LOG", raising=False)


def reported(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [entry_in(line) for line in capsys.readouterr().err.splitlines()]


def test_process_logs_its_entries_and_what_libraries_log_in_one_form(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = logging.getLogger().handlers[:]
    with hosted("eu-tm-1") as host:
        host.report(ProcessReady())
        logging.getLogger("a.library").warning("odd: %s", 7)
        logging.getLogger("a.library").info("not worth a line")
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            warnings.warn("it goes away", DeprecationWarning, stacklevel=1)
    assert logging.getLogger().handlers == before
    ready, odd, warned = reported(capsys)
    assert (ready["entry"], ready["source"], ready["level"]) == ("ProcessReady", "eu-tm-1", "info")
    assert (odd["entry"], odd["logger"], odd["message"]) == ("Logged", "a.library", "odd: 7")
    assert "it goes away" in warned["message"]


@pytest.mark.parametrize(
    ("error", "code", "hint"),
    [
        (IntegrityError("the log is damaged", hint="find out who"), "integrity", "find out who"),
        (ZeroDivisionError("a mistake"), "internal", ""),
    ],
)
def test_error_that_ends_a_process_is_reported_and_raised(
    error: Exception, code: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(type(error)) as caught, hosted("eu-tm-1"):
        raise error
    assert caught.value is error
    (failed,) = reported(capsys)
    assert (failed["entry"], failed["level"]) == ("ProcessFailed", "error")
    assert (failed["code"], failed["hint"]) == (code, hint)
    assert str(error) in failed["reason"]


def test_setting_that_is_wrong_is_reported_as_the_end_of_the_process(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERLODE_BEAT_MS", "soon")
    with pytest.raises(ConfigError), hosted("eu-tm-1"):
        pytest.fail("it must not begin")
    assert [e["entry"] for e in reported(capsys)] == ["ProcessFailed"]


@pytest.mark.parametrize(
    ("form", "line"),
    [("auto", "demo: it begins"), ("text", "demo: it begins"), ("json", None)],
)
def test_progress_of_a_verb_is_text_unless_json_is_asked_for(
    form: str,
    line: str | None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EVERLODE_LOG", form)
    progress()(Note("demo", "it begins"))
    out, err = capsys.readouterr()
    assert out == ""
    if line is None:
        assert json.loads(err)["remark"] == "it begins"
    else:
        assert err == line + os.linesep


def test_entries_of_a_supervisor_come_back_from_its_state_file(tmp_path: Path) -> None:
    found = [Note("provision", "x"), PartReady("eu topics", 1.5, "3 created"), StackReady(2.0)]
    values = [{"entry": type(e).__name__, **as_fields(e)} for e in found]
    write_state(tmp_path, "starting", reported=values)
    assert reported_by(read_state(tmp_path)) == found
    assert reported_by({}) == []
    assert {type(e).__name__ for e in found} == REPORTED.keys()


def as_fields(entry: Any) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in entry.__dataclass_fields__ if name != "level"}


def test_log_with_other_lines_and_half_a_line_has_its_entries(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert entries(log) == []
    whole = json.dumps({"entry": "ProcessReady", "text": "ready", "source": "a"})
    log.write_text(f'error: x\n{whole}\n[1]\n{{"entry": "Proc')
    assert [e["source"] for e in entries(log)] == ["a"]
    assert matching(entries(log), "ProcessReady", text="ead", source="a")
    assert not matching(entries(log), source="b")
