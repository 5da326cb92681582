"""The compose file, and what an engine's refusals mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from everlode.errors import ConfigError
from everlode.settings.endpoints import Endpoints
from everlode.stack.compose.engine import meaning
from everlode.stack.compose.file import Shape, compose_file, repository_file, volumes_of
from everlode.stack.compose.parts import (
    FOLDER,
    MOST_VOLUMES,
    Images,
    default_ports,
    endpoints_of,
    inside,
    outside,
)
from everlode.stack.compose.prepare import broker_settings, layout_of, write
from everlode.stack.native.layout import Layout
from everlode.stack.services import ALL
from everlode.topics import Topology

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"
THREE = Layout(Topology(), FOLDER, mirrors=True, control_nodes=3, s3=True)


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(FILE.read_text())["services"]
    return found


def test_file_of_the_repository_is_what_the_code_makes() -> None:
    made = "run: python -m everlode.stack.compose.file > docker-compose.yml"
    assert FILE.read_text() == repository_file(), made


def test_file_has_every_part_and_every_process_of_three_regions() -> None:
    parts = {name.replace("/", "-") for name in THREE.names}
    found = set(services()) - {"prepare", "open"}
    assert parts < found
    assert len(found - parts) == 3 * sum(ALL.values())


def test_nothing_has_root_rights_or_is_published_beyond_the_loopback() -> None:
    for name, one in services().items():
        assert one["user"] == "10001:10001", name
        assert one["read_only"] is True, name
        assert one["cap_drop"] == ["ALL"], name
        assert "cap_add" not in one, name
        assert "privileged" not in one, name
        assert one["security_opt"] == ["no-new-privileges:true"], name
        assert one["mem_limit"], name
        assert all(port.startswith("127.0.0.1:") for port in one.get("ports", [])), name
        assert not any("docker.sock" in volume for volume in one.get("volumes", [])), name


def test_all_that_is_asked_for_answers_a_health_check() -> None:
    for name in THREE.names:
        assert services()[name.replace("/", "-")]["healthcheck"]["test"], name


def test_whoever_needs_what_is_prepared_waits_for_it() -> None:
    found = services()
    for name, one in found.items():
        waits = {
            who: how["condition"] for who, how in one.get("depends_on", {}).items()
        }  # fmt: skip
        if name == "prepare":
            assert waits == {}
        elif name == "open":
            assert set(waits.values()) == {"service_healthy"}
            assert len(waits) == len([n for n in THREE.names if not n.endswith("/mirror")])
        else:
            first = "prepare" if name.replace("-", "/") in THREE.names else "open"
            first = "open" if name.endswith("mirror") else first
            assert waits == {first: "service_completed_successfully"}, name


def test_secrets_are_in_no_argument_and_no_variable() -> None:
    text = FILE.read_text()
    for name in ("PASSWORD", "ROOT_USER"):
        lines = [line for line in text.splitlines() if name in line]
        assert lines
        assert all("_FILE: /everlode/secrets/" in line for line in lines)


def test_preparation_writes_what_the_containers_read_once(tmp_path: Path) -> None:
    wanted = json.loads(services()["prepare"]["command"][1])
    wanted["ports"] = {name: 20_000 + n for n, name in enumerate(wanted["ports"])}
    write(wanted, tmp_path)
    kept = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    write(wanted, tmp_path)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == kept
    found = Endpoints.load(tmp_path)
    assert found.topology == Topology()
    assert found.regions["us"].kafka_bootstrap == "us-kafka:9092"
    assert found.control() == "control-1:9092,control-2:9092,control-3:9092"
    secret = tmp_path / "secrets/eu-postgres"
    assert secret.stat().st_mode & 0o777 == 0o600
    for name in THREE.names:
        if name.partition("/")[2] not in ("postgres", "") or name.startswith("control"):
            assert (tmp_path / name / "server.properties").exists(), name


def test_broker_is_told_both_ways_to_itself() -> None:
    found = broker_settings(THREE, "control/2", 19_007)
    assert found["node.id"] == 2
    assert found["advertised.listeners"] == "INSIDE://control-2:9092,OUTSIDE://127.0.0.1:19007"
    voters = "1@control-1:9093,2@control-2:9093,3@control-3:9093"
    assert found["controller.quorum.voters"] == voters


def test_endpoints_differ_by_where_they_are_seen_from_alone() -> None:
    ports = default_ports(THREE)
    within, without = endpoints_of(THREE, inside), endpoints_of(THREE, outside(ports))
    assert without.regions["eu"].kafka_bootstrap == f"127.0.0.1:{ports['eu/kafka']}"
    assert set(within.regions) == set(without.regions)
    assert len(set(ports.values())) == len(THREE.names)


def test_shape_of_a_folder_says_its_ports_and_images_and_asks_for_no_variable() -> None:
    small = Topology(regions=("eu",), control_replication=1, control_min_insync=1)
    layout = Layout(small, FOLDER, mirrors=False, control_nodes=1, s3=True)
    text = compose_file(layout, (), Shape(default_ports(layout), Images(kafka="mine:1")))
    found = yaml.safe_load(text)["services"]
    assert set(found) == {"prepare", "open", "eu-kafka", "eu-postgres", "control-1", "s3"}
    assert found["eu-kafka"]["image"] == "mine:1"
    assert "${" not in text
    assert layout_of(json.loads(found["prepare"]["command"][1]), FOLDER) == layout


def test_more_volumes_than_the_image_has_folders_are_refused() -> None:
    many = Topology(regions=tuple(f"r{n}" for n in range(16)))
    with pytest.raises(ConfigError, match=str(MOST_VOLUMES)):
        volumes_of(Layout(many, FOLDER, mirrors=False, control_nodes=3, s3=True))


SAID = {
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon "
    "running?": ("no_engine", "/var/run/docker.sock", "DOCKER_HOST"),
    "failed to connect to the docker API at unix:///var/run/docker.sock; check if the path is "
    "correct and if the daemon is running: dial unix: no such file": (
        "no_engine", "/var/run/docker.sock", "DOCKER_HOST",
    ),
    "permission denied while trying to connect to the Docker daemon socket at "
    "unix:///var/run/docker.sock: Get version: dial unix: connect: permission denied": (
        "engine_rights", "/var/run/docker.sock", "usermod -aG docker",
    ),
    "ERROR: for eu-kafka  Cannot start service eu-kafka: driver failed: Bind for 127.0.0.1:19000 "
    "failed: port is already allocated": ("port_in_use", "127.0.0.1:19000", "EU_KAFKA_PORT"),
    "listen tcp4 127.0.0.1:19000: bind: address already in use": (
        "port_in_use", "127.0.0.1:19000", "ss -ltnp",
    ),
    "write /data: no space left on device": ("no_room", "/data", "docker system df"),
    "docker: 'compose' is not a docker command.": ("no_compose", "compose", "docker-compose"),
    "something else\nthat nobody knows": ("engine_failed", "that nobody knows", ""),
}  # fmt: skip


@pytest.mark.parametrize("said", SAID)
def test_refusal_of_the_engine_names_the_thing_and_the_way_out(said: str) -> None:
    code, thing, way = SAID[said]
    error = meaning(f"Creating network\n{said}\n", "start the stack")
    assert error.code == code
    assert thing in error.message
    assert way in error.hint
