"""The plan file, the stages that follow from it, and the journal that survives a kill."""

from __future__ import annotations

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


@pytest.mark.parametrize("line", ["{}\n", "no json\n", "[]\n", "1\n"])
def test_damaged_journal_is_refused_by_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_text('{"step": "a", "at_ms": 1}\n' + line)
    with pytest.raises(IntegrityError, match="line 2"):
        RecoveryJournal(path)
