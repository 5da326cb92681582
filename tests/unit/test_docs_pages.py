"""Whatever the tutorial and the how-tos let a reader type is typed by a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.facts.pages import ROOT, pages, saved, typed, unread
from tests.support.processes.shell import NotAsWritten, run

ELSEWHERE = {
    "docs/tutorial/the-demo.md": "tests/faults/test_demo.py::"
    "test_demo_with_a_killed_primary_loses_nothing",
    "docs/howto/write-in-another-language.md": "tests/integration/test_examples.py::"
    "test_miner_in_another_language_solves_a_task",
}
"""Page → the test that runs its commands; all other pages are typed by test_docs_commands."""
PLAIN = {
    "pytest -p everlode.pytest_plugin examples/test_mining_service.py",
    "everlode stack up --services all --dir network",
    "pytest -p everlode.pytest_plugin --everlode-stack network --everlode-region us tests",
}
"""Commands of docs/testing.md: tests/integration/test_users_suite.py runs the like."""
PAGE = """# A page

```yaml
# network.yaml
regions: [eu]
```

```console
$ cat network.yaml
regions: [eu]
$ x=1
$ echo a; echo $x
a
1
```
"""


@pytest.mark.parametrize("page", pages(), ids=lambda path: path.stem)
def test_page_has_nothing_to_type_or_save_that_no_test_reads(page: Path) -> None:
    assert unread(page.read_text()) == []


def test_pages_whose_commands_run_elsewhere_name_a_test_that_is_there() -> None:
    for page, test in ELSEWHERE.items():
        file, _, function = test.partition("::")
        assert f"def {function}(" in (ROOT / file).read_text()
        assert typed((ROOT / page).read_text()), f"{page} has no commands: strike it from the list"


def test_page_about_suites_has_the_commands_that_its_test_runs() -> None:
    text = (ROOT / "docs/testing.md").read_text()
    assert set(re.findall(r"^    (\S.*)$", text, re.M)) == PLAIN


def test_commands_and_files_of_a_page_are_found() -> None:
    assert saved(PAGE) == {"network.yaml": "# network.yaml\nregions: [eu]\n"}
    assert [one.line for one in typed(PAGE)] == ["cat network.yaml", "x=1", "echo a; echo $x"]
    assert typed(PAGE)[2].seen == ("a", "1")
    assert unread(PAGE) == []


@pytest.mark.parametrize(
    "block",
    ["```sh\nrm -r x\n```\n", "    everlode status\n", "```console\neverlode status\n```\n",
     "```python\nprint(1)\n```\n", "```yaml\n# other.yaml\na: 1\n```\n"],
)  # fmt: skip
def test_block_that_nobody_would_run_is_found(block: str) -> None:
    assert len(unread(f"{PAGE}\n{block}")) == 1


def test_shell_keeps_what_was_said_before_and_passes_as_written(tmp_path: Path) -> None:
    (tmp_path / "network.yaml").write_text(saved(PAGE)["network.yaml"])
    run(typed(PAGE), tmp_path, 20)


@pytest.mark.parametrize(
    ("block", "why"),
    [("$ true\n$ cat no-such-file\n", "ended with 1"), ("$ echo a\nb\n", "does not show: b"),
     ("$ echo b\n$ echo a\nb\n", "does not show: b"), ("$ exit 3\n", "ended with no end")],
)  # fmt: skip
def test_command_that_is_not_as_written_is_named(tmp_path: Path, block: str, why: str) -> None:
    with pytest.raises(NotAsWritten, match=why):
        run(typed(f"```console\n{block}```\n"), tmp_path, 20)
