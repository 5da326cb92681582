"""A process is scraped on the loopback, and Prometheus told where; nothing ends for want of it."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path
from urllib.error import URLError

import pytest

from everlode.telemetry import entries
from everlode.telemetry.entries import Entry, Led, ProcessReady, Unanswered
from everlode.telemetry.figures import REGISTRY, Member, MemberFigures, counted
from everlode.telemetry.scraped import Scraping, scraped
from everlode.telemetry.sink import silent
from tests.support.processes.scraping import Figures, figures_of, scrape, targets

NAME = "eu/tm 1"


def target(folder: Path) -> str:
    """Where the one process in a folder says that it is scraped."""
    found = targets(folder)
    assert found.keys() == {NAME}
    return found[NAME]


def figures(at: str) -> Figures:
    return figures_of(scrape(at))


def test_process_says_where_it_is_scraped_while_it_runs(tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    with scraped(NAME, Scraping(None, folder), silent):
        at = target(folder)
        assert at.startswith("127.0.0.1:")
        found = figures(at)
        assert found["process_resident_memory_bytes", ()] > 1e6
        assert ("everlode_entries_total", ("ProcessFailed", "error")) in found
    assert list(folder.iterdir()) == []
    with pytest.raises(URLError):
        figures(at)


def test_process_that_nobody_asks_for_listens_nowhere(tmp_path: Path) -> None:
    with scraped(NAME, Scraping(None, None), silent):
        assert list(tmp_path.iterdir()) == []


def test_entries_are_counted_and_reported(tmp_path: Path) -> None:
    said: list[Entry] = []
    report = counted(said.append)
    key = "everlode_entries_total", ("Led", "info")
    with scraped(NAME, Scraping(None, tmp_path), silent):
        before = figures(target(tmp_path))[key]
        report(Led("task-manager/eu", 3, 0.1))
        assert figures(target(tmp_path))[key] == before + 1
    assert [type(entry) for entry in said] == [Led]


def test_each_kind_of_entry_is_there_before_its_first() -> None:
    kinds = {k for k in vars(entries).values() if isinstance(k, type) and issubclass(k, Entry)}
    for kind in kinds - {Entry}:
        labels = {"entry": kind.__name__, "level": kind.level}
        assert REGISTRY.get_sample_value("everlode_entries_total", labels) is not None
    assert len(kinds) > 30


def test_port_that_is_taken_or_folder_that_is_none_stops_nobody(tmp_path: Path) -> None:
    said: list[Entry] = []
    file = tmp_path / "file"
    file.touch()
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with scraped(NAME, Scraping(port, tmp_path / "none"), said.append):
            pass
    with scraped(NAME, Scraping(None, file / "below"), said.append):
        pass
    first, second = said
    assert isinstance(first, Unanswered)
    assert isinstance(second, Unanswered)
    assert str(port) in first.reason
    assert str(file) in second.reason
    assert "EVERLODE_METRICS_PORT" in first.hint


def test_file_of_a_successor_of_the_same_name_stays(tmp_path: Path) -> None:
    with scraped(NAME, Scraping(None, tmp_path), silent):
        (file,) = tmp_path.glob("*.json")
        file.write_text('[{"targets": ["127.0.0.1:1"], "labels": {}}]')
    assert file.exists()


def test_member_has_figures_once_it_has_joined() -> None:
    now: list[Member | None] = [None]
    found = MemberFigures(lambda: now[0])
    assert list(found.collect()) == []
    scopes = {"task-manager/eu": True, "task-manager/us": False}
    now[0] = Member("eu-tm-1", "eu", "task-manager", scopes, 7, 2, stands_still=False)
    samples = [s for family in found.collect() for s in family.samples]
    assert {s.labels["scope"]: s.value for s in samples if s.name == "everlode_node_leads"} == {
        "task-manager/eu": 1, "task-manager/us": 0,
    }  # fmt: skip
    assert ("everlode_node_work_done_total", 7) in {(s.name, s.value) for s in samples}


def test_sink_that_counts_passes_on_what_fails() -> None:
    def fails(_: Entry) -> None:
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        counted(fails)(ProcessReady())
