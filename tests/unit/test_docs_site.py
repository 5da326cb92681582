"""The site builds without a warning, and its reference has all that the code has."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from docs.site.reference import PARTS
from everlode.api.app import application
from everlode.avro import schemas
from everlode.events.catalogue import EVENTS
from everlode.settings.environment import VARIABLES
from everlode.topics import Topology
from everlode.topics.catalogue import catalogue
from tests.support.facts.pages import ROOT
from tests.unit.test_cli_main import LEAVES

pytestmark = pytest.mark.timeout(300)  # the build alone is 14 s of a core, and others work, too
MARK = re.compile(r"<!-- made at build: (\w+) -->")


def build(place: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """As `make docs` does, elsewhere."""
    words = ["-qnW", "--keep-going", "-c", "docs/site", "-d", str(place / "doctrees"), *more]
    return subprocess.run(
        [sys.executable, "-m", "sphinx", *words, ".", str(place / "html")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("site")
    done = build(place)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return place / "html"


def test_site_builds_strictly_and_has_every_page(site: Path) -> None:
    pages = {path.relative_to(ROOT).with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert [str(page) for page in sorted(pages) if not (site / page).is_file()] == []


def test_makefile_builds_as_the_test_does() -> None:
    (line,) = re.findall(r"-m sphinx (.+)$", (ROOT / "Makefile").read_text(), re.M)
    assert line.split()[:2] == ["-qnW", "--keep-going"]


def test_page_loads_nothing_from_elsewhere_but_what_draws_diagrams(site: Path) -> None:
    loads = re.compile(r"<(?:script|link|img)[^>]*(?:src|href)=\"(https?:[^\"]+)\"")
    found = {url for page in site.rglob("*.html") for url in loads.findall(page.read_text())}
    assert [url for url in found if "mermaid" not in url] == []


@pytest.mark.parametrize("part", PARTS)
def test_each_made_part_is_asked_for_by_its_page_and_no_other(part: str, site: Path) -> None:
    asked = {
        page.name
        for page in (ROOT / "docs").rglob("*.md")
        if part in MARK.findall(page.read_text())
    }
    assert asked == {f"{part}.md"}
    assert "made at build" not in (site / f"docs/reference/{part}.html").read_text()
    assert PARTS[part]() == PARTS[part]()


def test_reference_has_every_verb_setting_record_topic_and_operation() -> None:
    verbs, made = set(re.findall(r"^## everlode (.+)$", PARTS["cli"](), re.M)), PARTS["schemas"]()
    assert verbs == set(LEAVES)
    assert set(re.findall(r"^\| `(EVERLODE_\w+)` ", PARTS["settings"](), re.M)) == set(VARIABLES)
    assert set(re.findall(r"^## (\w+)$", made, re.M)) == set(schemas.names()) > set(EVENTS)
    own = (s for s in catalogue(Topology()) if not s.owner.startswith("mirror from"))
    home = {s.name for s in own if s.cluster in ("eu", "control")}
    assert set(re.findall(r"^\| `(\S+)` ", PARTS["topics"](), re.M)) == home
    paths = application(None, None).openapi()["paths"]  # type: ignore[arg-type]
    wanted = {f"{method.upper()} {path}" for path, one in paths.items() for method in one}
    assert set(re.findall(r"^\| `([A-Z]+ \S+)` ", PARTS["api"](), re.M)) == wanted


def test_option_of_a_verb_is_in_the_reference() -> None:
    said = PARTS["cli"]()
    switches = {o for p in LEAVES.values() for q in p.params for o in q.opts if o[:2] == "--"}
    assert [switch for switch in switches - {"--help"} if switch not in said] == []
