"""The operators' verbs of the command: when a pause ends, who asks."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from everlode.cli import scope_verbs
from everlode.cli.main import run
from everlode.errors import ConfigError


@pytest.mark.parametrize(
    ("lasts", "seconds"), [(None, 3600), ("90s", 90), ("45m", 2700), ("2h", 7200), ("1d", 86_400)]
)
def test_pause_lasts_an_hour_or_as_long_as_it_is_told(lasts: str | None, seconds: int) -> None:
    now_ms = time.time() * 1000
    assert abs(scope_verbs._until_ms(lasts, None) - now_ms - seconds * 1000) < 2000


def test_pause_ends_at_a_time_in_any_zone() -> None:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=3)
    for text in (end.isoformat(), end.astimezone().isoformat()):
        assert scope_verbs._until_ms(None, text) == end.timestamp() * 1000


@pytest.mark.parametrize(
    ("lasts", "until"),
    [
        ("0s", None), ("5", None), ("-5m", None), ("1w", None), ("", "soon"), (None, "soon"),
        (None, "2020-01-01T00:00+00:00"), ("5m", "2999-01-01"),
    ],
)  # fmt: skip
def test_pause_without_a_time_to_come_is_refused(lasts: str | None, until: str | None) -> None:
    with pytest.raises(ConfigError):
        scope_verbs._until_ms(lasts, until)


def test_operator_is_the_setting_else_the_systems_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERLODE_OPERATOR", "ann")
    assert scope_verbs._operator() == "ann"
    monkeypatch.delenv("EVERLODE_OPERATOR")
    monkeypatch.setenv("LOGNAME", "bob")
    assert scope_verbs._operator() == "bob"


@pytest.mark.parametrize("timeout", ["0", "nan", "inf", "90000"])
def test_time_out_is_between_a_second_and_a_day(
    timeout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["scope", "drain", "n", "--timeout", timeout, "--dir", str(tmp_path), "--json"]
    assert run(words) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"
