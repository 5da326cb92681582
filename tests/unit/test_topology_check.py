"""A topology file is right, or everything that is wrong with it is named: line, rule, way out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from pydantic.fields import FieldInfo

from everlode.cli.main import run
from everlode.errors import ConfigError
from everlode.settings.environment import Settings, settings
from everlode.settings.topology import BESIDE, load_topology
from everlode.stack.services import ALL
from everlode.topics import Topology
from everlode.topology.check import NOT_OBEYED, Checked, check, read
from everlode.topology.model import READERS, Policies, TopologyFile
from everlode.topology.reference import keys

RIGHT = """\
regions: [eu, us]
clusters:
  eu: &same
    task-manager: {nodes: 3, priorities: {2: 500}, specialties: {3: [training, inference]}}
    validator:
      automatic: {nodes: 2, specialties: {2: [inference]}}
      peer-review: {nodes: [2]}
    detector: {nodes: 1}
    coordinator: {nodes: 1}
  us: *same
policies:
  detection: {beat_ms: 500}
  balancing: {lease_s: 60}
"""


def names(found: Checked, region: str) -> list[str]:
    assert found.network is not None, found.findings
    return sorted(m.name for m in found.network.members if m.region == region)


def test_right_file_says_what_runs_in_each_region() -> None:
    found = check(RIGHT)
    expected = ["co-1", "det-1", "tm-1", "tm-2", "tm-3", "val-1", "val-4", "val-5"]
    for region in ("eu", "us"):
        assert names(found, region) == [f"{region}/{name}" for name in expected]
    assert found.network is not None
    by_name = {m.name: m for m in found.network.members}
    assert [by_name[f"eu/tm-{n}"].priority for n in (1, 2, 3)] == [99, 500, 97]
    assert by_name["eu/tm-1"].settings == (("beat_ms", 500), ("lease_s", 60))
    assert by_name["eu/det-1"].settings == (("beat_ms", 500),)
    assert {m.node_id: m.specialties for m in found.network.members if m.specialties} == {
        f"{region}-{node}": names for region in ("eu", "us")
        for node, names in (("tm-3", ("training", "inference")), ("val-4", ("inference",)))
    }  # fmt: skip
    kinds = [by_name[f"eu/val-{n}"].validator_kind for n in (1, 4, 5)]
    assert kinds == ["automatic", "automatic", "peer-review"]
    assert found.network.topology.model_fields_set == {"regions"}


def test_merge_keys_and_one_key_over_another_are_yaml() -> None:
    text = "clusters:\n  eu: &a {detector: {nodes: 1}}\n  us: {<<: *a, projector: {nodes: 1}}\n"
    assert names(check(text), "us") == ["us/det-1", "us/proj-1"]


ONE = "regions: [eu]\n"
WATCHED = "    coordinator: {nodes: 1}\n    detector: {nodes: 1}\n"
EU = ONE + "clusters:\n  eu:\n" + WATCHED
WRONG = {
    "no mapping": ("[eu]\n", 1, "yaml", "a mapping of keys"),
    "no YAML": ("regions: [eu\nx: 1\n", 2, "yaml", "expected ',' or ']'"),
    "a tab": ("regions:\n\t- eu\n", 2, "yaml", "cannot start any token"),
    "a key that stands twice": (f"{ONE}partitions: 2\npartitions: 3\n", 3, "twice", "in line 2"),
    "an alias of itself": ("regions: &a [*a]\n", 1, "yaml", "without an end"),
    "unknown key": (f"{ONE}partition: 2\n", 2, "unknown-key", "the nearest is partitions"),
    "unknown kind": (
        f"{EU}    task-manger: {{nodes: 1}}\n", 6, "unknown-key", "the nearest is task-manager",
    ),
    "other spelling": (
        f"{EU}    task_manager: {{nodes: 1}}\n", 6, "unknown-key", "the nearest is task-manager",
    ),
    "unknown key of a cluster": (
        f"{EU}    task-manager:\n      node: 1\n      nodes: 1\n", 7, "unknown-key",
        "eu.task-manager.node: there is no such key; the nearest is nodes",
    ),
    "priorities of what does not lead": (
        f"{EU}    projector: {{nodes: 1, priorities: {{1: 2}}}}\n", 6, "unknown-key",
        "projector.priorities",
    ),
    "key of another place": (f"{ONE}lease_s: 5\n", 2, "unknown-key", "in policies.balancing"),
    "key that nothing obeys": (
        f"{EU}    task-manager: {{nodes: 1, endpoint: x}}\n", 6, "not-obeyed",
        "eu.task-manager.endpoint: nothing in this build obeys it: a node listens where",
    ),
    "specialities by another spelling": (
        f"{EU}    task-manager: {{nodes: 1, specialities: {{1: [training]}}}}\n", 6, "not-obeyed",
        "the key is specialties",
    ),
    "special in a type that there is not": (
        f"{EU}    task-manager:\n      nodes: 2\n      specialties:\n"
        "        1: [training,\n          traning]\n", 10, "specialty",
        "specialties.1.1: traning: there is no such type of task; the nearest is training",
    ),
    "special in a type twice": (
        f"{EU}    task-manager: {{nodes: 2, specialties: {{1: [training, training]}}}}\n", 6,
        "specialty", "name each type once",
    ),
    "special in nothing": (
        f"{EU}    validator:\n      expert: {{nodes: 2, specialties: {{1: []}}}}\n", 7,
        "specialty", "name a type of task, or leave the node out",
    ),
    "special node that there is not": (
        f"{EU}    validator:\n      expert: {{nodes: 2, specialties: {{3: [training]}}}}\n", 7,
        "specialty", "validator.expert.specialties.3: 3 is no node of it; its nodes are 1, 2",
    ),
    "a type that no node is for": (
        f"task_types: [aa, bb, cc]\n{EU}    task-manager:\n      nodes: 2\n"
        "      specialties: {1: [aa], 2: [aa, bb]}\n", 9,
        "specialty", "every node is special, and none in cc: leave one out",
    ),
    "specialties of who is not chosen by them": (
        f"{EU}    miner-registry: {{nodes: 1, specialties: {{1: [training]}}}}\n", 6,
        "unknown-key", "miner-registry.specialties: it belongs in clusters.REGION.task-manager",
    ),
    "a list for specialties": (
        f"{EU}    task-manager: {{nodes: 1, specialties: [training]}}\n", 6, "type",
        "task-manager.specialties: expected",
    ),
    "policy that nothing obeys": (
        f"{ONE}policies:\n  detection: {{phi: 8}}\n", 3, "not-obeyed", "policies.detection.phi",
    ),
    "count of another type": (
        f"{EU}    task-manager: {{nodes: three}}\n", 6, "value", "expected a count up to 99",
    ),
    "true for a count": (f"{EU}    projector: {{nodes: yes}}\n", 6, "value", "expected a count"),
    "too many": (f"{EU}    projector: {{nodes: 100}}\n", 6, "value", "a count up to 99"),
    "node 0": (f"{EU}    projector: {{nodes: [0]}}\n", 6, "value", "a count up to 99"),
    "a number twice": (f"{EU}    projector: {{nodes: [1, 1]}}\n", 6, "value", "each number once"),
    "no count": (f"{EU}    projector: {{}}\n", 6, "missing", "projector.nodes must be given"),
    "text for a number": (f"{ONE}partitions: many\n", 2, "type", "partitions: expected an integer"),
    "below its bound": (
        f"{ONE}policies:\n  detection:\n    beat_ms: 5\n", 4, "range",
        "policies.detection.beat_ms: expected greater than or equal to 100, not 5",
    ),
    "region that cannot be": ("regions:\n- eu\n- a_b\n", 3, "region", "'a_b': not a name"),
    "region that YAML takes for no": ("regions: [eu,\n no]\n", 2, "type", "regions.1: expected"),
    "region twice": ("regions:\n- eu\n- eu\n", 3, "region", "each region once"),
    "region's name that is taken": ("regions: [control]\n", 1, "region", "the name is taken"),
    "no region": ("regions: []\n", 1, "value", "at least one"),
    "clusters of another region": (
        f"{ONE}clusters:\n  uk:\n    projector: {{nodes: 1}}\n", 3, "region", "the nearest is eu",
    ),
    "two sites": (
        f"{ONE}control_replication: 2\n", 2, "majority",
        "2 sites are no majority for the control log",
    ),
    "four sites": (f"{ONE}control_replication: 4\n", 2, "majority", "an odd number"),
    "a minority that decides": (
        f"{ONE}control_replication: 5\n", 1, "majority", "2 of 5 sites are no majority",
    ),
    "all sites for each decision": (
        f"{ONE}control_min_insync: 3\n", 2, "majority", "the loss of one would end all",
    ),
    "more in sync than copies": (f"{ONE}min_insync: 2\n", 2, "value", "at most replication"),
    "more copies than brokers": (f"{ONE}replication: 3\n", 2, "brokers", "one broker"),
    "lease shorter than two elections": (
        f"{ONE}policies:\n  failover:\n    fence_after_ms: 9000\n", 4, "fence-after",
        "it must be at least 10000",
    ),
    "lease shorter than three renewals": (
        f"{ONE}policies:\n  failover:\n    renew_ms: 4001\n", 4, "fence-after", "at least 12003",
    ),
    "a region is suspected before its link is stale": (
        f"{ONE}policies:\n  detection:\n    link_stale_ms: 20000\n", 4, "patience",
        "region_suspected_ms is 10000; it must be at least 20000",
    ),
    "priority of no node": (
        f"{EU}    task-manager:\n      nodes: [1, 3]\n      priorities: {{2: 7}}\n", 8, "priority",
        "2 is no node of it; its nodes are 1, 3",
    ),
    "priority below 0": (
        f"{EU}    task-manager: {{nodes: 1, priorities: {{1: -1}}}}\n", 6, "range", "priorities.1",
    ),
    "nodes that nobody coordinates": (
        f"{ONE}clusters:\n  eu:\n    task-manager: {{nodes: 1}}\n", 3, "led", "no coordinator",
    ),
    "secondaries that nobody watches": (
        f"{ONE}clusters:\n  eu:\n    task-manager: {{nodes: 2}}\n    coordinator: {{nodes: 1}}\n",
        3, "watched", "several nodes of task-manager and no detector",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "line", "rule", "why"), WRONG.values(), ids=WRONG)
def test_contradiction_is_named_with_line_and_rule(
    text: str, line: int, rule: str, why: str
) -> None:
    found = check(text)
    assert found.network is None
    assert [(f.line, f.rule) for f in found.findings if why in f.message] == [(line, rule)], (
        found.findings
    )
    assert len(found.findings) == 1, found.findings


def test_everything_that_is_wrong_is_said_at_once_by_line() -> None:
    text = "regions: [eu]\npartitions: 0\nx: 1\nclusters:\n  eu: {projector: {}}\n"
    lines = [(f.line, f.rule) for f in check(text).findings]
    assert lines == [(2, "range"), (3, "unknown-key"), (5, "missing")]


def test_aliases_that_grow_without_end_are_refused_soon() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    found = check("\n".join(rows))
    assert {f.rule for f in found.findings} == {"yaml"}


def test_policy_is_a_setting_of_the_processes_that_are_told_it() -> None:
    """Name, default, bound and meaning: so a policy that a process does not read cannot be here."""
    told: dict[str, FieldInfo] = {}
    for name, section in Policies.model_fields.items():
        model = type(section.get_default())
        told |= {} if name == "replication" else model.model_fields
    assert told.keys() == READERS.keys()
    for name, field in told.items():
        setting = Settings.model_fields[name]
        assert (field.default, field.metadata) == (setting.default, setting.metadata), name
        assert field.description == setting.description, name
    assert {kind for kinds in READERS.values() for kind in kinds} == ALL.keys()


def test_key_that_is_said_to_be_obeyed_by_nothing_is_no_key() -> None:
    assert {key.path[-1] for key in keys()} & NOT_OBEYED.keys() == set()


def test_same_file_is_a_topology_for_its_setting_too(tmp_path: Path) -> None:
    assert TopologyFile.model_fields.keys() - Topology.model_fields.keys() == set(BESIDE)
    file = tmp_path / "network.yaml"
    file.write_text(RIGHT)
    assert load_topology(file) == Topology(regions=("eu", "us"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No such file"),
        (b"\xff\xfe\x00", "no text"),
        (b"# " + b"x" * 300_000, "more than 262144 bytes"),
    ],
)
def test_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, why: str) -> None:
    file = tmp_path / "network.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=why) as caught:
        read(file)
    assert str(file) in caught.value.message


def test_check_prints_file_line_rule_and_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "network.yaml"
    file.write_text("regions: [eu]\ncontrol_replication: 2\n")
    assert run(["topology", "check", str(file)]) == 2
    assert capsys.readouterr().out.startswith(f"{file}:2: majority: control_replication: 2 sites")
    assert run(["topology", "check", str(file), "--json"]) == 2
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], [f["line"] for f in said["findings"]]) == (False, [2])
    file.write_text(RIGHT)
    assert run(["topology", "check", str(file), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ok"]
    assert len(said["members"]) == 16
    (note,) = said["notes"]
    assert "none is ever found lost" in note
    file.write_text(RIGHT.replace("[eu, us]", "[eu, us, ap]"))
    assert run(["topology", "check", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == []


@pytest.mark.parametrize("verb", ["plan", "apply"])
def test_plan_and_apply_want_a_right_file_and_a_stack_that_runs(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "network.yaml"
    file.write_text("regions: [eu]\nx: 1\n")
    words = ["topology", verb, str(file), "--dir", str(tmp_path), "--json"]
    assert run(words) == 2
    assert f"{file}:2: unknown-key" in json.loads(capsys.readouterr().out)["error"]["message"]
    file.write_text(RIGHT)
    assert run(words) == 10
    assert run(["topology", verb, str(file), "--dir", str(tmp_path / "none"), "--json"]) == 10
    (tmp_path / "stack.json").write_text('{"topology": {"regions": ["eu", "us"]}}')
    assert run(words) == 14
    assert "does not run" in capsys.readouterr().out


@pytest.mark.parametrize("more", [["--regions", "eu"], ["--no-mirrors"], ["--services", "all"]])
def test_stack_from_a_file_wants_no_options_that_say_the_same(
    more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = tmp_path / "network.yaml", tmp_path / "stack"
    file.write_text(RIGHT)
    words = ["stack", "up", "--topology", str(file), "--dir", str(folder), "--json"]
    assert run([*words, *more]) == 2
    assert "the file says" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert not folder.exists()


def test_stack_that_there_is_refuses_a_file_that_contradicts_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = '{"topology": {"regions": ["eu"], "partitions": 3}}'
    (tmp_path / "stack.json").write_text(kept)
    file = tmp_path / "network.yaml"
    file.write_text(RIGHT)
    words = ["stack", "up", "--topology", str(file), "--dir", str(tmp_path), "--json"]
    assert run(words) == 2
    assert "regions: eu, us; the stack has eu" in capsys.readouterr().out
    assert (tmp_path / "stack.json").read_text() == kept
    assert settings().topology is None


def test_yaml_of_json_is_read_alike() -> None:
    assert check(json.dumps(yaml.safe_load(RIGHT))).network == check(RIGHT).network
