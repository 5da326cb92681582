"""The plan file, the stages that follow from it, and the journal that survives a kill."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from everlode.errors import ConfigError, IntegrityError
from everlode.recovery.journal import RecoveryJournal
from everlode.recovery.planner import PRIORITIES, stages
from everlode.recovery.request import RecoveryRequest, load_request
from tests.unit.test_backup_manifest import ENTRY, manifest

GOOD = {
    "plan_name": "p",
    "disaster_type": "database-corruption",
    "target_region": "eu",
}


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    return path


def test_plan_is_read_with_its_defaults(tmp_path: Path) -> None:
    text = "".join(f"{k}: {v}\n" for k, v in GOOD.items())
    plan = load_request(written(tmp_path, text))
    assert plan == RecoveryRequest.model_validate(GOOD)
    assert plan.max_acceptable_data_loss_s == 0
    assert plan.health_gate_ppm == 800_000


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"disaster_type": "flood"}, "disaster_type"),
        ({"recovery_time_objective_s": "soon"}, "recovery_time_objective_s"),
        ({"recovery_time_objective_s": 0}, "recovery_time_objective_s"),
        ({"max_acceptable_data_loss_s": -1}, "max_acceptable_data_loss_s"),
        ({"health_gate_ppm": 1_000_001}, "health_gate_ppm"),
        ({"surprise": 1}, "surprise"),
        ({"plan_name": '""'}, "plan_name"),
    ],
)
def test_wrong_setting_is_named(tmp_path: Path, change: dict[str, object], named: str) -> None:
    text = "".join(f"{k}: {v}\n" for k, v in {**GOOD, **change}.items())
    with pytest.raises(ConfigError, match=named) as caught:
        load_request(written(tmp_path, text))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "a: [", "\t", "42"])
def test_what_is_no_plan_is_a_configuration_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"plan\.yaml"):
        load_request(written(tmp_path, text))


def test_missing_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml"):
        load_request(tmp_path / "none.yaml")


def test_stages_are_in_order_of_priority_with_what_they_restore() -> None:
    found = stages(manifest(objects=(ENTRY, ENTRY.model_copy(update={"partition": 1}))))
    assert [s.component for s in found] == list(PRIORITIES)
    assert found[0].component == "miner-registry"
    assert found[-1].component == "fraud-detection"
    tasks = found[1]
    assert (tasks.states, tasks.records, tasks.bytes) == ("tasks", 6, 40)
    assert found[0].records == 0


def test_journal_remembers_across_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "run" / "journal.jsonl"
    journal = RecoveryJournal(path)
    journal.note("fetched", backup_id="b")
    journal.note("generation", generation=2)
    journal.close()
    with path.open("a") as file:
        file.write('{"step": "stage-miner-reg')  # killed while writing
    again = RecoveryJournal(path)
    assert set(again.done) == {"fetched", "generation"}
    assert again.done["fetched"]["backup_id"] == "b"
    again.note("stage-miner-registry", success=True)
    again.close()
    third = RecoveryJournal(path)
    assert set(third.done) == {"fetched", "generation", "stage-miner-registry"}
    third.close()


def journal_lines(path: Path) -> list[str]:
    """A journal's lines."""
    journal = RecoveryJournal(path)
    for generation in (2, 3, 4):
        journal.note("generation", generation=generation)
    journal.close()
    return path.read_text().splitlines(keepends=True)


@pytest.mark.parametrize("line", ["{}\n", "no json\n", "[]\n", "1\n"])
def test_damaged_journal_is_refused_by_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text(journal_lines(path)[0] + line)
    with pytest.raises(IntegrityError, match="line 2"):
        RecoveryJournal(path)


@pytest.mark.parametrize(
    ("change", "number"),
    [
        (lambda lines: [lines[0], lines[1].replace(": 3,", ": 2,"), lines[2]], 2),
        (lambda lines: [lines[0], lines[2]], 2),
        (lambda lines: [lines[1], lines[2]], 1),
        (lambda lines: [lines[0], lines[0]], 2),
        (lambda lines: [lines[0], lines[1].replace("sha256", "sha"), lines[2]], 2),
    ],
    ids=["a digit", "a line is gone", "its begin is gone", "a line twice", "no hash"],
)
def test_journal_that_was_changed_is_refused_though_each_line_can_be_read(
    tmp_path: Path, change: Callable[[list[str]], list[str]], number: int
) -> None:
    path = tmp_path / "journal.jsonl"
    lines = journal_lines(path)
    changed = change(lines)
    assert changed != lines
    path.write_text("".join(changed))
    with pytest.raises(IntegrityError, match=f"line {number}") as caught:
        RecoveryJournal(path)
    assert (caught.value.code, "--staging" in caught.value.hint) == ("journal_changed", True)


def test_journal_that_lost_its_end_is_one_of_an_earlier_step(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text("".join(journal_lines(path)[:2]))
    journal = RecoveryJournal(path)
    assert journal.done["generation"]["generation"] == 3
    journal.note("generation", generation=5)
    journal.close()
    again = RecoveryJournal(path)
    assert again.done["generation"]["generation"] == 5
    again.close()
